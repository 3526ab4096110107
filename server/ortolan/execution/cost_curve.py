"""What a batch costs, and how large it should be: a model's measured durations by rows. Pure.

A curve is measured at 1, 2, 4 … rows and read in between along straight lines. The *knee* of a backlog is the smallest
batch that comes within 1 % of the best rows per second that the backlog allows: beyond it, a larger batch makes its
members wait for each other and gains nothing. On a model for which batching does not pay the knee is 1.

Every execution refines the curve, by a little. Most of a surprise is put down to the machine, which holds for all
sizes, and the rest to the size that was executed: so sizes that were not executed for long stay comparable.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import truediv

KNEE_TOLERANCE = 0.01
# One execution that was held up by something else must not bend the curve: it counts as so much too slow at most.
_MOST_SURPRISE = 0.25
_MACHINES_PART = 0.04
_SIZES_PART = 0.01
# The spread follows the duration that one execution in five exceeds: up by much or down by little. More caution drops
# requests that could have been served, less serves more of them late (benchmarks/scheduling_simulation.py).
_SPREAD_UP = 0.016
_SPREAD_DOWN = 0.004
# How many executions of a new class of rows it takes to know its cost: the first ones prepare memory.
_FIRST_EXECUTIONS = 5


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One measured batch size; ``spread_ns`` is how far the slower runs lie above the duration."""

    rows: int
    duration_ns: int
    spread_ns: int = 0


def measured_sizes(max_rows: int) -> list[int]:
    """The batch sizes at which a curve is measured: powers of two, and the largest."""
    sizes = [1 << power for power in range(max_rows.bit_length()) if 1 << power < max_rows]
    return [*sizes, max_rows]


@dataclass(slots=True)
class _Fit:
    """The curve at one moment; never changed, so that a reader has one curve to the end. Durations in nanoseconds."""

    rows: Sequence[int]
    durations: Sequence[float]
    """As if the machine were as fast as when it was measured; ``slowness`` is how much longer it takes now."""
    spreads: Sequence[float]
    """Shares of the durations."""
    slowness: float
    best: Sequence[float]
    """The best rate up to each size, that size included, at slowness 1. Between two sizes there is no better one:
    along a straight line of durations the rate only rises or only falls."""

    def place(self, rows: int) -> tuple[int, int, float]:
        """The sizes between which ``rows`` lies, by index, and how far it is on the way to the second."""
        above = bisect_left(self.rows, rows)
        if above == len(self.rows):
            return above - 1, above - 1, 0.0
        if above == 0 or self.rows[above] == rows:
            return above, above, 0.0
        left, right = self.rows[above - 1], self.rows[above]
        return above - 1, above, (rows - left) / (right - left)

    def duration(self, rows: int) -> float:
        """At slowness 1."""
        below, above, share = self.place(rows)
        if below == above:
            # Beyond the last size, and at a size itself, where the factor is 1.
            return self.durations[above] * max(1.0, rows / self.rows[above])
        return self.durations[below] + share * (self.durations[above] - self.durations[below])

    def spread(self, rows: int) -> float:
        below, above, share = self.place(rows)
        return self.spreads[below] + share * (self.spreads[above] - self.spreads[below])

    def rate(self, rows: int) -> float:
        return rows / self.duration(rows)

    def knee(self, backlog: int) -> int:
        last = bisect_right(self.rows, backlog) - 1
        enough = max(self.best[last], self.rate(backlog)) * (1 - KNEE_TOLERANCE)
        # The first size that is good enough, or the backlog itself; the knee lies on the line that leads there.
        first = min(bisect_left(self.best, enough), last + 1)
        if first == 0:
            return self.rows[0]
        left = self.rows[first - 1]
        right = self.rows[first] if first <= last else backlog
        return left + 1 + bisect_left(range(left + 1, right), enough, key=self.rate)


class CostCurve:
    """The durations of one model version on its device, refined with every execution.

    One thread observes; any may read, also meanwhile.
    """

    def __init__(self, points: Sequence[CurvePoint], max_rows: int) -> None:
        """``points`` ascending by rows, the first at 1 row. Sizes beyond the last cost as much per row as it does."""
        self._max_rows = max_rows
        rows = [point.rows for point in points]
        durations = [float(point.duration_ns) for point in points]
        spreads = [point.spread_ns / point.duration_ns for point in points]
        self._fit = _Fit(rows, durations, spreads, 1.0, _best_rates(rows, durations))

    @property
    def points(self) -> list[CurvePoint]:
        fit = self._fit
        return [
            CurvePoint(rows, int(duration * fit.slowness), int(spread * duration * fit.slowness))
            for rows, duration, spread in zip(fit.rows, fit.durations, fit.spreads, strict=True)
        ]

    def best_rows_per_s(self, max_rows: int) -> float:
        """The most rows per second that one instance can do in batches of ``max_rows`` rows at most."""
        fit = self._fit
        last = max(bisect_right(fit.rows, max_rows) - 1, 0)
        return max(fit.best[last], fit.rate(max(max_rows, 1))) / fit.slowness * 1e9

    def needed_ns_per_row(self, max_rows: int, apart: bool = False) -> float:
        """What a row takes of an instance in the best batch of ``max_rows`` rows at most.

        ``apart``: as if no other run were on the device meanwhile, whatever makes runs slower now than when they were
        measured; for devices on which they overlap.
        """
        slowness = self._fit.slowness
        return 1e9 / self.best_rows_per_s(max_rows) * (min(slowness, 1.0) / slowness if apart else 1.0)

    def duration_ns(self, rows: int) -> float:
        """What a batch of ``rows`` rows is expected to take."""
        fit = self._fit
        return fit.duration(rows) * fit.slowness

    def cautious_duration_ns(self, rows: int) -> float:
        """A duration that one batch of ``rows`` rows in five exceeds."""
        fit = self._fit
        return fit.duration(rows) * fit.slowness * (1 + fit.spread(rows))

    def knee(self, backlog_rows: int) -> int:
        """How many of ``backlog_rows`` waiting rows the next batch should have; at least 1."""
        return self._fit.knee(min(max(backlog_rows, 1), self._max_rows))

    def observe(self, rows: int, duration_ns: int) -> None:
        """Refine the curve with one execution."""
        fit = self._fit
        ratio = duration_ns / (fit.duration(rows) * fit.slowness)
        surprise = min(max(ratio - 1, -_MOST_SURPRISE), _MOST_SURPRISE)
        step = _SPREAD_UP if ratio > 1 + fit.spread(rows) else -_SPREAD_DOWN
        durations, spreads = list(fit.durations), list(fit.spreads)
        below, above, share = fit.place(rows)
        for index, weight in ((below, 1 - share), (above, share)):
            durations[index] *= 1 + _SIZES_PART * weight * surprise
            spreads[index] = max(0.0, spreads[index] + weight * step)
        slowness = fit.slowness * (1 + _MACHINES_PART * surprise)
        self._fit = _Fit(fit.rows, durations, spreads, slowness, _best_rates(fit.rows, durations))


def _best_rates(rows: Sequence[int], durations: Sequence[float]) -> Sequence[float]:
    return tuple(accumulate(map(truediv, rows, durations), max))


class CurveBook:
    """The curves of one version: one for each size class of its rows, since a longer row costs more.

    The first curve was measured at load; a size class that comes up later starts as its copy, scaled by the cheapest
    of its first executions.
    """

    def __init__(self, points: Sequence[CurvePoint], max_rows: int, rows_vary: bool) -> None:
        self._points = points
        self._max_rows = max_rows
        self._rows_vary = rows_vary
        self.base = CostCurve(points, max_rows)
        self._observed_ns = self._needed_ns = 0.0
        self._by_class: dict[int, CostCurve] = {}
        self._first_factors: dict[int, list[float]] = {}

    def curve(self, row_bytes: int) -> CostCurve:
        """The curve for rows of ``row_bytes`` bytes."""
        if not self._rows_vary:
            return self.base
        return self._by_class.get(row_bytes.bit_length(), self.base)

    def observe(self, row_bytes: int, rows: int, duration_ns: int) -> None:
        """Refine the curve for such rows with one execution."""
        if self._rows_vary:
            factors = self._first_factors.setdefault(row_bytes.bit_length(), [])
            if len(factors) < _FIRST_EXECUTIONS:
                factors.append(duration_ns / self.base.duration_ns(rows))
                self._by_class[row_bytes.bit_length()] = self._scaled(min(factors))
                return
            self._observed_ns += duration_ns
            self._needed_ns += min(duration_ns, rows * self.curve(row_bytes).needed_ns_per_row(self._max_rows))
        self.curve(row_bytes).observe(rows, duration_ns)

    @property
    def needed_of_observed_ns(self) -> tuple[float, float]:
        """What the observed executions would have needed in the best batches, and what they took, since the start.

        Nothing where all rows cost the same, so that their number says it.
        """
        return self._needed_ns, self._observed_ns

    def _scaled(self, factor: float) -> CostCurve:
        scaled = [
            CurvePoint(point.rows, max(1, int(point.duration_ns * factor)), int(point.spread_ns * factor))
            for point in self._points
        ]
        return CostCurve(scaled, self._max_rows)


def gain(points: Sequence[CurvePoint]) -> float:
    """How many times as many rows per second the best batch size does as single rows do."""
    single = points[0].duration_ns / points[0].rows
    return max(single / (point.duration_ns / point.rows) for point in points)


def as_plain(points: Sequence[CurvePoint]) -> list[list[int]]:
    """The points as JSON keeps them."""
    return [[point.rows, point.duration_ns, point.spread_ns] for point in points]


def from_plain(rows: Sequence[Sequence[int]]) -> list[CurvePoint]:
    """The points that ``as_plain`` wrote. Raises TypeError or ValueError where they cannot be a curve's."""
    points = [CurvePoint(*row) for row in rows]
    numbers = [number for point in points for number in (point.rows, point.duration_ns, point.spread_ns)]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError("a curve has whole numbers, 0 or more")
    sizes = [point.rows for point in points]
    if sizes[:1] != [1] or sizes != sorted(set(sizes)) or any(point.duration_ns == 0 for point in points):
        raise ValueError("a curve begins at 1 row, rises, and takes time")
    return points
