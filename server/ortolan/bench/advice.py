"""What to change, from what was measured: one sentence with its numbers for each thing that stands out (pure)."""

from collections.abc import Iterator

from ortolan.bench.load import Form
from ortolan.bench.measured_server import capacity
from ortolan.bench.report import Measured, Report, RowsMeasured, number

_MUCH = 1.3
_MODEL_BOUND = 0.6
_SATURATED = 1.1
_FAR_TAIL = 10.0


def advice(report: Report) -> list[str]:
    """Sentences for whoever runs the model, the most important first; never none."""
    found = [
        *_faults(report),
        *_the_model_itself(report),
        *_rows_in_a_request(report.by_rows),
        *_batching_on_the_server(report),
        *_form(report),
        *_clients(report),
        *_tail(report),
        *_generator(report),
    ]
    return found or ["Nothing: no form, number of clients or batch size is far ahead of the others."]


def _faults(report: Report) -> Iterator[str]:
    faulty = [each for each in report.points if each.figures.faults]
    reasons = sorted({reason for each in faulty for reason in each.figures.failed})
    if faulty:
        said = ", ".join(reasons) or "no answer"
        yield (
            f"{sum(each.figures.faults for each in faulty)} requests failed ({said}); the figures count right answers "
            "only. 503 is a full queue: see --max-queue-size, or send less."
        )


def _the_model_itself(report: Report) -> Iterator[str]:
    """Whether the model or what is around it sets the limit."""
    floor = next((each.floor for each in report.by_rows if each.rows == 1), None)
    best = max((capacity({each.point.clients: each.figures}) for each in report.points), default=0.0)
    if not floor or not best:
        return
    if best >= _MODEL_BOUND * floor:
        yield (
            f"The model is the limit: {number(best)} requests/s are {best / floor:.1f} times what one thread computes "
            f"without a server ({number(floor)}/s). More cores or a GPU, instances for them, or a smaller or quantized "
            "model would help; clients and protocol would not."
        )
    else:
        yield (
            f"The model is small: one thread computes {number(floor)} rows/s without a server, and the server answers "
            f"{number(best)} requests/s. What costs is each request: send more rows in one, or use the cheapest form."
        )


def _rows_in_a_request(by_rows: tuple[RowsMeasured, ...]) -> Iterator[str]:
    known = [(each.rows, each.rows_per_s) for each in by_rows if each.rows_per_s and each.figures]
    if len(known) < 2:
        return
    single = known[0][1] or 0.0
    most = max(rate or 0.0 for _, rate in known)
    rows, rate = next((rows, rate or 0.0) for rows, rate in known if (rate or 0.0) >= 0.9 * most)
    if rows > 1 and rate >= _MUCH * single:
        yield (
            f"Best batch: {rows} rows in a request make {number(rate)} rows/s, {rate / single:.1f} times as many as "
            "single rows. Clients that have several rows at hand should send them together."
        )
    elif rows == 1:
        yield "Best batch: 1 row. Larger requests do not make more rows per second."


def _batching_on_the_server(report: Report) -> Iterator[str]:
    """Whether batching across requests would pay by the floor, and whether it happens."""
    floors = {each.rows: each.floor for each in report.by_rows if each.floor}
    busiest = max(
        (each for each in report.points if each.rows_per_run and each.point.rate is None),
        key=lambda each: each.point.clients,
        default=None,
    )
    if busiest is None or busiest.rows_per_run is None or 1 not in floors or len(floors) < 2:
        return
    gain = max(floors.values()) / floors[1]
    if gain >= _MUCH and busiest.rows_per_run < _SATURATED and busiest.point.clients > 1:
        yield (
            f"Batching would pay ({gain:.1f} times the rows/s in one run), but {busiest.point.clients} clients' "
            "requests ran one by one. `ortolan models --explain` says why."
        )


def _form(report: Report) -> Iterator[str]:
    best = {form: _capacity(report, form) for form in Form}
    best = {form: rate for form, rate in best.items() if rate}
    if len(best) < 2:
        return
    fastest, slowest = max(best, key=lambda form: best[form]), min(best, key=lambda form: best[form])
    if best[fastest] >= _MUCH * best[slowest]:
        yield (
            f"{fastest.title} makes {best[fastest] / best[slowest]:.1f} times as many requests per second as "
            f"{slowest.title} ({number(best[fastest])} and {number(best[slowest])})."
        )


def _clients(report: Report) -> Iterator[str]:
    """From how many clients on there is nothing to gain."""
    form = max(Form, key=lambda each: _capacity(report, each))
    closed = sorted(
        (each for each in report.points if each.point.form is form and each.point.rate is None),
        key=lambda each: each.point.clients,
    )
    if len(closed) < 2:
        return
    enough = next(each for each in closed if each.figures.requests_per_s * _SATURATED >= _capacity(report, form))
    most = closed[-1]
    if enough is not most:
        yield (
            f"{enough.point.clients} at a time are enough: {most.point.clients} {form.title} clients make no more "
            f"requests per second, and wait {number(most.figures.p50_ms)} ms instead of "
            f"{number(enough.figures.p50_ms)} (p50)."
        )


def _tail(report: Report) -> Iterator[str]:
    far = [each for each in report.points if each.figures.p99_ms >= _FAR_TAIL * each.figures.p50_ms]
    if far:
        worst: Measured = max(far, key=lambda each: each.figures.p99_ms / each.figures.p50_ms)
        yield (
            f"The slowest hundredth is far off: {number(worst.figures.p99_ms)} ms at p99 beside "
            f"{number(worst.figures.p50_ms)} at p50 ({worst.point.form.title}). Look for other work on this machine."
        )


def _generator(report: Report) -> Iterator[str]:
    busy = [each for each in report.points if each.figures.bounded_by_generator]
    if busy:
        forms = ", ".join(sorted({each.point.form.title for each in busy}))
        yield f"The load generator was busy itself ({forms}): the server may do more than these figures say."


def _capacity(report: Report, form: Form) -> float:
    return capacity(
        {each.point.clients: each.figures for each in report.points if each.point.form is form and not each.point.rate}
    )
