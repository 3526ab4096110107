"""Batch policies against each other by simulation: the server's own decision beside six others, on three cost curves.

Run by ``python benchmarks/scheduling_simulation.py``; takes half a minute, needs no model and no network. One executor,
requests of one row that come at random times (Poisson), each with the same deadline; executions take what the curve
says, with 5 % noise. The server's own policy is ``batch_policy.decide`` over a ``CostCurve`` that knows a noisy
calibration and learns; the two fixed delays are ``decide`` with an explicit delay. Nothing of a server but the policy
is in it: read the ranking, not the times.
"""

import random
import statistics
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ortolan.execution.batch_policy import Batching, Drop, Take, WaitUntil, decide
from ortolan.execution.cost_curve import CostCurve, CurvePoint, measured_sizes

MAX_ROWS = 32
DEADLINE_NS = 25_000_000
SECONDS = 20
SEEDS = (1, 2, 3)
LOADS = (0.5, 0.8, 0.95, 1.3)
NOISE = 0.05
CALIBRATION_RUNS = 9
MS = 1_000_000

Decision = Take | WaitUntil | Drop


def fully_connected(rows: int) -> float:
    """Nanoseconds of a batch of the fully connected network: fixed work first, 6.9 times the rows per second at 32."""
    return (3.10 + 0.35 * rows) * MS


def large_fully_connected(rows: int) -> float:
    """One of 168 MB that was measured at 138 rows per second at 1 and 957 at 16: a full batch is late by itself."""
    return (6.62 + 0.63 * rows) * MS


def convolution(rows: int) -> float:
    """A convolution, which costs the same for each row: batches gain nothing."""
    return 2.2 * rows * MS


CURVES = {
    "fully connected": fully_connected,
    "large fully connected": large_fully_connected,
    "convolution": convolution,
}


@dataclass(slots=True, eq=False)
class Request:
    """A request of one row, as ``decide`` wants it."""

    enqueued_ns: int
    deadline_ns: int
    rows: int = 1
    shapes: object = None


class Policy:
    """Decides over the head of the line; ``observe`` tells what a batch took and how long its first member waited."""

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        raise NotImplementedError

    def observe(self, rows: int, duration_ns: int, oldest_ns: int) -> None:
        """A batch was executed; its oldest member was answered after ``oldest_ns``."""


class Ours(Policy):
    """The server's automatic policy, over a curve calibrated as the server does it."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        noise = random.Random(0)
        points = []
        for rows in measured_sizes(MAX_ROWS):
            runs = sorted(cost(rows) * noise.gauss(1, NOISE) for _ in range(CALIBRATION_RUNS))
            median = statistics.median(runs)
            points.append(CurvePoint(rows, int(median), int(runs[-2] - median)))
        self._curve = CostCurve(points, MAX_ROWS)

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        return decide(head, now_ns, Batching(MAX_ROWS), self._curve)

    def observe(self, rows: int, duration_ns: int, oldest_ns: int) -> None:
        self._curve.observe(rows, duration_ns)


class Fixed(Policy):
    """Waits for a full batch, at most for a delay, and knows no deadline: Triton's way, and most others'."""

    def __init__(self, delay_ns: int) -> None:
        self._batching = Batching(MAX_ROWS, (), delay_ns, explicit=True)

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        return decide([_without_deadline(request) for request in head], now_ns, self._batching)


class Greedy(Policy):
    """Takes all that waits."""

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        return Take(min(len(head), MAX_ROWS))


class Additive(Policy):
    """Clipper's: the batch may grow by one while it takes less than the deadline, and shrinks by a tenth if not."""

    def __init__(self) -> None:
        self._most = 1.0

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        return Take(min(len(head), int(self._most)))

    def observe(self, rows: int, duration_ns: int, oldest_ns: int) -> None:
        if duration_ns > DEADLINE_NS:
            self._most = max(1.0, self._most * 0.9)
        elif rows >= int(self._most):
            self._most = min(float(MAX_ROWS), self._most + 1)


class EarlyDrop(Policy):
    """Nexus': the largest batch, from the first request on that would be answered in time in it. Knows the curve."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self._cost = cost

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        for count, request in enumerate(head):
            rows = min(len(head) - count, MAX_ROWS)
            if now_ns + self._cost(rows) * 1.05 <= request.deadline_ns:
                return Drop(count) if count else Take(rows)
        return Drop(len(head))


@dataclass(slots=True)
class Cork(Policy):
    """BentoML's: a line a·n + b fitted to the last 50 batches says whether to wait for more, and whom to drop."""

    _batches: deque[tuple[int, int]] = field(default_factory=lambda: deque([(1, 5 * MS), (2, 6 * MS)], maxlen=50))
    _waits: deque[int] = field(default_factory=lambda: deque([0], maxlen=50))
    _line: tuple[float, float] = (1.0 * MS, 4.0 * MS)
    _wait_ns: float = 0.0

    def decide(self, head: Sequence[Request], now_ns: int) -> Decision:
        slope, fixed = self._line
        count = min(len(head), MAX_ROWS)
        if len(head) > 1 and now_ns - head[0].enqueued_ns + slope * count + fixed >= DEADLINE_NS:
            return Drop(1)
        last_ns = now_ns - head[-1].enqueued_ns
        if count < MAX_ROWS and count * (last_ns + MS + slope) <= 0.95 * self._wait_ns:
            return WaitUntil(now_ns + MS)
        return Take(count)

    def observe(self, rows: int, duration_ns: int, oldest_ns: int) -> None:
        self._batches.append((rows, duration_ns))
        self._waits.append(oldest_ns - duration_ns)
        self._wait_ns = sum(self._waits) / len(self._waits)
        sizes = [size for size, _ in self._batches]
        if len(set(sizes)) > 1:
            slope, fixed = statistics.linear_regression(sizes, [duration for _, duration in self._batches])
            self._line = (max(0.0, slope), max(0.0, fixed))


POLICIES: dict[str, Callable[[Callable[[int], float]], Policy]] = {
    "fixed 5 ms": lambda cost: Fixed(5 * MS),
    "fixed 1 ms": lambda cost: Fixed(1 * MS),
    "greedy": lambda cost: Greedy(),
    "additive increase": lambda cost: Additive(),
    "cork": lambda cost: Cork(),
    "early drop": EarlyDrop,
    "ours": Ours,
}


def _without_deadline(request: Request) -> Request:
    return Request(request.enqueued_ns, 0)


def arrivals(rows_per_s: float, seed: int) -> list[Request]:
    """Poisson arrivals of ``SECONDS`` seconds."""
    source = random.Random(seed)
    found: list[Request] = []
    time_s = source.expovariate(rows_per_s)
    while time_s < SECONDS:
        at_ns = int(time_s * 1e9)
        found.append(Request(at_ns, at_ns + DEADLINE_NS))
        time_s += source.expovariate(rows_per_s)
    return found


@dataclass(slots=True)
class Result:
    """What became of the requests of some runs."""

    requests: int = 0
    latencies: list[int] = field(default_factory=list)
    batches: int = 0

    def __str__(self) -> str:
        within = sum(latency <= DEADLINE_NS for latency in self.latencies) / self.requests
        cuts = statistics.quantiles(self.latencies, n=100)
        return f"{_share(within)} {_ms(cuts[49])}/{_ms(cuts[98])}"


def _share(share: float) -> str:
    return f"{100 * share:.{1 if share < 0.9995 else 0}f} %"


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / MS:.{1 if nanoseconds < 10 * MS else 0}f}"


def simulate(
    policy: Policy, cost: Callable[[int], float], requests: Sequence[Request], noise: random.Random, into: Result
) -> None:
    """One executor serves ``requests`` as ``policy`` says; the outcome is added to ``into``."""
    into.requests += len(requests)
    now_ns, first, come = 0, 0, 0
    while first < len(requests):
        if first == come:
            now_ns = max(now_ns, requests[first].enqueued_ns)
        while come < len(requests) and requests[come].enqueued_ns <= now_ns:
            come += 1
        # As far as the queue shows it: one request more than a batch may have.
        head = requests[first : min(come, first + MAX_ROWS + 1)]
        decision = policy.decide(head, now_ns)
        if isinstance(decision, WaitUntil):
            following = requests[come].enqueued_ns if come < len(requests) else decision.time_ns
            now_ns = min(following, decision.time_ns)
            continue
        first += decision.count
        if isinstance(decision, Take):
            duration_ns = int(cost(decision.count) * max(0.5, noise.gauss(1, NOISE)))
            now_ns += duration_ns
            into.latencies.extend(now_ns - request.enqueued_ns for request in head[: decision.count])
            into.batches += 1
            policy.observe(decision.count, duration_ns, now_ns - head[0].enqueued_ns)


def main(names: Sequence[str]) -> None:
    for name in names or list(CURVES):
        cost = CURVES[name]
        best = max(rows / cost(rows) * 1e9 for rows in range(1, MAX_ROWS + 1))
        print(f"\n{name}: {best:.0f} rows/s at most; within {DEADLINE_NS // MS} ms, p50/p99 ms of those answered")
        print("| policy | " + " | ".join(f"{load:.0%}" for load in LOADS) + " |")
        print("|---" * (len(LOADS) + 1) + "|")
        for policy, made in POLICIES.items():
            cells: list[str] = []
            for load in LOADS:
                result = Result()
                for seed in SEEDS:
                    simulate(made(cost), cost, arrivals(load * best, seed), random.Random(-seed), result)
                cells.append(str(result))
            print(f"| {policy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
