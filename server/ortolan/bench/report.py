"""All that `ortolan bench` found out about one model, and how a person and a program read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ortolan.bench.figures import Figures
from ortolan.bench.measured_server import Point


@dataclass(frozen=True, slots=True)
class Measured:
    point: Point
    share: float | None
    """Of the capacity, for an open loop."""
    figures: Figures
    rows_per_run: float | None
    """How many rows the server computed at once on average, where it tells."""


@dataclass(frozen=True, slots=True)
class RowsMeasured:
    """One client whose requests have ``rows`` rows; ``floor`` is rows per second of the model without a server."""

    rows: int
    figures: Figures | None
    floor: float | None

    @property
    def rows_per_s(self) -> float | None:
        return self.figures.requests_per_s * self.rows if self.figures else None


@dataclass(frozen=True, slots=True)
class Report:
    server: str
    model: str
    inputs: str
    ready_s: float | None
    points: tuple[Measured, ...]
    by_rows: tuple[RowsMeasured, ...]
    floor_note: str
    """Why there is no floor; "" where there is."""

    def as_json(self, advice: Sequence[str]) -> dict[str, object]:
        return {
            "server": self.server,
            "model": self.model,
            "inputs": self.inputs,
            "ready_s": self.ready_s,
            "points": [_point_json(each) for each in self.points],
            "by_rows": [_rows_json(each) for each in self.by_rows],
            "floor_note": self.floor_note,
            "advice": list(advice),
        }


def as_text(report: Report, advice: Sequence[str]) -> str:
    """The report for a terminal."""
    started = f", ready {report.ready_s:.2f} s after its start" if report.ready_s is not None else ""
    lines = [f"{report.model} by {report.server}{started}", f"  {report.inputs}", ""]
    lines += _table(_POINT_HEAD, [_point_row(each) for each in report.points])
    if report.by_rows:
        lines += ["", f"Rows in one request: {report.by_rows[0].rows} to {report.by_rows[-1].rows}, one client"]
        lines += _table(_ROWS_HEAD, [_rows_row(each) for each in report.by_rows])
    if report.floor_note:
        lines += ["", f"No floor: {report.floor_note}"]
    lines += ["", "What stands out:", *(f"  - {sentence}" for sentence in advice)]
    return "\n".join(lines)


_POINT_HEAD = (
    "form", "load", "req/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU us/req", "memory MiB", "rows/run", "failed"
)  # fmt: skip
_ROWS_HEAD = ("rows", "req/s", "rows/s", "p50 ms", "session.run rows/s")


def _point_row(measured: Measured) -> tuple[str, ...]:
    found = measured.figures
    return (
        measured.point.form.title,
        _load(measured),
        number(found.requests_per_s),
        number(found.p50_ms),
        number(found.p99_ms),
        number(found.p999_ms),
        number(found.cpu_us_per_request),
        number(found.resident_mib),
        number(measured.rows_per_run),
        str(found.faults or "-"),
    )


def _load(measured: Measured) -> str:
    if measured.point.rate is None:
        return "1 client" if measured.point.clients == 1 else f"{measured.point.clients} clients"
    share = f" ({measured.share:.0%})" if measured.share is not None else ""
    return f"{number(measured.point.rate)}/s{share}"


def _rows_row(measured: RowsMeasured) -> tuple[str, ...]:
    found = measured.figures
    return (
        str(measured.rows),
        number(found.requests_per_s if found else None),
        number(measured.rows_per_s),
        number(found.p50_ms if found else None),
        number(measured.floor),
    )


def number(value: float | None) -> str:
    """A measured number with no more digits than it deserves; "-" for none."""
    if value is None or value != value:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    left = ("form", "load")
    return [
        "  "
        + "  ".join(
            text.ljust(width) if title in left else text.rjust(width)
            for text, width, title in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def _point_json(measured: Measured) -> Mapping[str, object]:
    return {
        "form": measured.point.form.value,
        "clients": measured.point.clients,
        "rate": measured.point.rate,
        "share_of_capacity": measured.share,
        **measured.figures.as_json(),
        "rows_per_run": measured.rows_per_run,
    }


def _rows_json(measured: RowsMeasured) -> Mapping[str, object]:
    found = measured.figures.as_json() if measured.figures else None
    return {
        "rows": measured.rows,
        "rows_per_s": measured.rows_per_s,
        "floor_rows_per_s": measured.floor,
        "figures": found,
    }
