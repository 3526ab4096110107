"""A server's status as text: a line on the server, and a table of its models; pure."""

import unicodedata
from collections.abc import Sequence

from ortolan.commands.status_figures import Row, Status

_HEAD = ("MODEL", "VERSION", "STATE", "REQ/S", "MEAN", "P50", "P99 ms", "BATCH", "QUEUE", "UTIL", "MEMORY", "FAILED")
_TEXTS = 3
"""How many columns are texts, on the left; the others are numbers, on the right."""
_NOTHING = "–"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def status_text(status: Status, place: str) -> str:
    """All of it, one model a line; nothing that a server says moves the cursor."""
    rows = [_cells(row) for row in status.rows]
    widths = [max(map(_width, column)) for column in zip(_HEAD, *rows, strict=True)]
    reasons = [row.reason for row in status.rows]
    lines = [_line(_HEAD, widths), *map(lambda cells, why: _line(cells, widths, why), rows, reasons)]
    if not rows:
        lines = ["no models"]
    return "\n".join([_server(status, place), "", *lines])


def fitted(text: str, columns: int, lines: int) -> str:
    """``text`` cut to what a terminal of that size shows without scrolling."""
    shown = text.split("\n")
    if len(shown) > lines:
        left_out = len(shown) - lines + 1
        shown = [*shown[: lines - 1], f"… {left_out} more"]
    return "\n".join(_cut(line, columns) for line in shown)


def _server(status: Status, place: str) -> str:
    parts = [f"{_safe(status.server)} at {place}", "ready" if status.is_ready else "NOT READY"]
    if status.utilization is not None:
        parts.append(f"utilization {_share(status.utilization)}")
    if status.requests_per_s is not None:
        parts.append(f"{_number(status.requests_per_s)} requests/s")
    if status.memory_bytes is not None:
        parts.append(f"memory {_bytes(status.memory_bytes)}")
    if status.errors is not None:
        parts.append(f"error answers {status.errors}")
    parts.append(f"over {status.seconds:.0f} s" if status.seconds >= 0.5 else "since the models were loaded")
    return "  ".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    failures = f"{row.failures} +{row.new_failures}" if row.new_failures else str(row.failures)
    return (
        _safe(row.model),
        _safe(row.version),
        _safe(row.state),
        _number(row.requests_per_s),
        _number(row.mean_ms),
        _number(row.p50_ms),
        _number(row.p99_ms),
        _number(row.rows_per_batch),
        _NOTHING if row.queue is None else str(row.queue),
        _share(row.utilization),
        _NOTHING if row.memory_bytes is None else _bytes(row.memory_bytes),
        failures if row.state == "READY" else _NOTHING,
    )


def _line(cells: Sequence[str], widths: Sequence[int], reason: str = "") -> str:
    padded = [
        text + " " * (width - _width(text)) if column < _TEXTS else " " * (width - _width(text)) + text
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([*padded, _safe(reason)]).rstrip()


def _number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return _NOTHING
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}" if value else "0"


def _share(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.0f} %"


def _bytes(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{_number(value)} {_UNITS[unit]}"


def _safe(text: str) -> str:
    """``text`` without what a terminal would obey."""
    return "".join("�" if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") else each for each in text)


def _width(text: str) -> int:
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(line: str, columns: int) -> str:
    """As much of ``line`` as fits, with a sign that there was more."""
    if _width(line) <= columns:
        return line
    kept, used = [], 1
    for character in line:
        used += _columns(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"
