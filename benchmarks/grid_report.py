"""What the grid found: its cells, what qualifies them, and their ratios."""

import datetime
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ortolan.bench.figures import Figures
from ortolan.bench.load import Form
from ortolan.bench.measured_server import Point
from ortolan.bench.report import number

OURS = "ours"
BARE = "bare"
_PACKAGES = ("ortolan", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson", "grpcio", "protobuf")


@dataclass(frozen=True)
class GridPoint:
    """Where servers are compared: ``clients`` that wait for their answers, or an open loop at ``rate`` per second.

    ``share``: which part ``rate`` is of the capacity that the server called ``capacity_of`` has shown.
    """

    model: str
    form: Form
    clients: int
    share: float | None = None
    capacity_of: str = ""
    rate: float | None = None

    @property
    def load(self) -> str:
        if self.share is None:
            return f"{self.clients} at once"
        return f"{self.share:.0%} of {self.capacity_of}: {number(self.rate)}/s"

    def asked(self) -> Point:
        return Point(self.form, self.clients, self.rate)


@dataclass(frozen=True)
class Cell:
    """One server at one point."""

    point: Point
    server: str
    figures: Figures

    @property
    def note(self) -> str:
        """What forbids to compare the figures with others; "" for nothing."""
        failed = [f"{self.figures.faults} failed"] if self.figures.faults else []
        busy = ["the load generator was busy"] if self.figures.bounded_by_generator else []
        return ", ".join(failed + busy)

    def line(self) -> str:
        found = self.figures
        numbers = f"{number(found.requests_per_s):>8}/s  p50 {number(found.p50_ms):>6}  p99 {number(found.p99_ms):>6}"
        numbers += f"  p99.9 {number(found.p999_ms):>6} ms  CPU {number(found.cpu_us_per_request):>6} us"
        note = f"  ({self.note})" if self.note else ""
        where = f"{self.point.model:12} {self.point.form.title:12} {self.point.load:24} {self.server:12}"
        return f"{where} {numbers}  {number(found.resident_mib):>5} MiB{note}"

    def as_json(self) -> dict[str, object]:
        point = self.point
        return {
            "model": point.model,
            "form": point.form.value,
            "server": self.server,
            "clients": point.clients,
            "share_of_capacity": point.share,
            "capacity_of": point.capacity_of or None,
            "rate": point.rate,
            **self.figures.as_json(),
            "note": self.note,
        }


@dataclass(frozen=True)
class Pair:
    """Two servers at one point; ratios above 1 are more requests, more latency, more CPU of the first."""

    ours: Cell
    theirs: Cell

    @property
    def sound(self) -> bool:
        return not self.ours.note and not self.theirs.note

    def ratio(self, figure: str) -> float | None:
        ours, theirs = getattr(self.ours.figures, figure), getattr(self.theirs.figures, figure)
        known = ours and theirs and ours == ours and theirs == theirs
        return ours / theirs if known else None


@dataclass(frozen=True)
class Summary:
    """Ratios of requests per second in closed loops, of the pairs that nothing forbids to compare."""

    mean: float
    least: float
    compared: int
    pairs: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} (least {self.least:.2f}; {self.compared} of {self.pairs} points)"


@dataclass(frozen=True)
class Floor:
    model: str
    rows: int
    rows_per_s: float


@dataclass(frozen=True)
class LeftOut:
    """A server that did not answer a form, and what it said."""

    model: str
    form: Form
    server: str
    why: str


@dataclass
class GridReport:
    machine: Mapping[str, object]
    arguments: str
    seconds: float
    rounds: int
    cells: list[Cell] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    starts: list[tuple[str, str, float]] = field(default_factory=list)
    """Model, server and seconds until it was ready."""
    programs: dict[str, str] = field(default_factory=dict)
    """What each server calls itself, with its version."""

    @property
    def servers(self) -> list[str]:
        """In the order in which they were measured first; the floor last."""
        found = dict.fromkeys(cell.server for cell in self.cells)
        return sorted(found, key=lambda server: server == BARE)

    def as_json(self) -> dict[str, object]:
        return {
            "machine": self.machine,
            "arguments": self.arguments,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "servers": self.programs,
            "cells": [cell.as_json() for cell in self.cells],
            "left_out": [{**vars(each), "form": each.form.value} for each in self.left_out],
            "session_run": [vars(floor) for floor in self.floors],
            "starts": [{"model": model, "server": server, "ready_s": ready} for model, server, ready in self.starts],
        }


def pairs(cells: Sequence[Cell], ours: str, other: str) -> Iterator[Pair]:
    """The points at which both were measured."""
    theirs = {cell.point: cell for cell in cells if cell.server == other}
    return (Pair(cell, theirs[cell.point]) for cell in cells if cell.server == ours and cell.point in theirs)


def summary(found: Sequence[Pair]) -> Summary | None:
    """None where nothing can be compared."""
    closed = [pair for pair in found if pair.ours.point.share is None]
    rates = [rate for pair in closed if pair.sound and (rate := pair.ratio("requests_per_s"))]
    return Summary(statistics.geometric_mean(rates), min(rates), len(rates), len(closed)) if rates else None


def machine() -> dict[str, object]:
    """What the figures depend on: no name of the machine, no path."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
