"""The grid as Markdown: one row for each point, with every server's figures and our ratios to the others'."""

from collections.abc import Iterator, Sequence

from grid_report import BARE, OURS, Cell, GridPoint, GridReport, Pair, pairs, summary

from ortolan.bench.load import Form
from ortolan.bench.report import number

_MARK = "†"
_RATIOS = ("requests_per_s", "p50_ms", "p99_ms", "cpu_us_per_request")


def markdown(report: GridReport) -> str:
    """All of the report; it names no path."""
    ours = OURS if OURS in report.servers else next(iter(report.servers), "")
    others = [server for server in report.servers if server != ours]
    parts = [_origin(report), _table(report, ours, others), _legend(report, ours)]
    parts += [_means(report, ours, other) for other in others]
    parts += [_floors(report), _starts(report), _left_out(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(report: GridReport) -> str:
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.machine.items())
    command = f"`python benchmarks/grid.py {report.arguments}".strip() + "`"
    programs = "; ".join(f"{server}: {program}" for server, program in report.programs.items())
    return f"{command}: medians of {report.rounds} rounds of {report.seconds:g} s. {machine}.\n\nServers: {programs}."


def _table(report: GridReport, ours: str, others: Sequence[str]) -> str:
    found = {(cell.point, cell.server): cell for cell in report.cells}
    compared = {(pair.ours.point, other): pair for other in others for pair in pairs(report.cells, ours, other)}
    peers = [other for other in others if other != BARE]
    head = ["model", "form", "load"]
    for server in (ours, *peers):
        head += [f"{server} req/s", "p50/p99/p99.9 ms", "CPU µs", "MiB"]
    head += [f"{BARE} req/s", "CPU µs"] if BARE in others else []
    head += [f"{ours}/{peer}: req/s, p50, p99, CPU" for peer in peers]
    rows = []
    for point in dict.fromkeys(cell.point for cell in report.cells):
        row = [point.model, point.form.title, point.load]
        for server in (ours, *peers):
            row += _cells(found.get((point, server)))
        if BARE in others:
            rate, _, cpu, _ = _cells(found.get((point, BARE)))
            row += [rate, cpu]
        rows.append([*row, *(_ratios(compared.get((point, peer))) for peer in peers)])
    return "\n".join(_row(each) for each in (head, ["---"] * len(head), *rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(cell: Cell | None) -> tuple[str, str, str, str]:
    if cell is None:
        return "", "", "", ""
    found = cell.figures
    rate = number(found.requests_per_s) + (f" {_MARK}" if cell.note else "")
    latencies = "/".join(number(each) for each in (found.p50_ms, found.p99_ms, found.p999_ms))
    return rate, latencies, number(found.cpu_us_per_request), number(found.resident_mib)


def _ratios(pair: Pair | None) -> str:
    if pair is None:
        return ""
    shown = (pair.ratio(figure) for figure in _RATIOS)
    return ", ".join("-" if each is None else f"{each:.2f}" for each in shown) + ("" if pair.sound else f" {_MARK}")


def _legend(report: GridReport, ours: str) -> str:
    noted = [f"- {_where(cell.point)}, {cell.server}: {cell.note}" for cell in report.cells if cell.note]
    said = (
        "Loads: so many clients at once, each waiting for its answer; or an open loop at a share of the capacity of "
        f"the server named, at one rate for all in the row. Memory is PSS. A dash: too few answers to tell. Ratios "
        f"above 1: more requests, more latency, more CPU of {ours}."
    )
    if not noted:
        return said
    return f"{said}\n\n{_MARK} Not to be compared, and in no mean:\n\n" + "\n".join(noted)


def _where(point: GridPoint) -> str:
    return f"{point.model}, {point.form.title}, {point.load}"


def _means(report: GridReport, ours: str, other: str) -> str:
    found = list(pairs(report.cells, ours, other))
    if not found:
        return ""
    whole = summary(found)
    return f"{ours} / {other}, requests/s in closed loops, geometric mean: " + (
        f"{whole}; {'; '.join(_by_form(found))}." if whole else "nothing can be compared."
    )


def _by_form(found: Sequence[Pair]) -> Iterator[str]:
    for form in Form:
        if one := summary([pair for pair in found if pair.ours.point.form is form]):
            yield f"{form.title} {one}"


def _floors(report: GridReport) -> str:
    lines = []
    for model in dict.fromkeys(floor.model for floor in report.floors):
        rates = [f"{floor.rows}: {number(floor.rows_per_s)}" for floor in report.floors if floor.model == model]
        lines.append(f"- {model}: {', '.join(rates)}")
    return "`session.run` by itself, one thread, rows/s by rows in a run:\n\n" + "\n".join(lines) if lines else ""


def _starts(report: GridReport) -> str:
    starts = [f"{model}, {server}: {ready:.2f}" for model, server, ready in report.starts]
    return f"Seconds until ready: {'; '.join(starts)}." if starts else ""


def _left_out(report: GridReport) -> str:
    lines = [f"- {each.server}, {each.model}, {each.form.title}: {each.why}" for each in report.left_out]
    return "Left out:\n\n" + "\n".join(lines) if lines else ""
