"""When to close a batch, and how large: a pure decision over the line's head, without clock or lock.

Two rules. *Automatic*, the default: a free instance never waits; the batch is the knee of the model's measured cost
curve for what has queued. *Explicit*, where the configuration sets preferred sizes or a delay: Triton's rule
(``dynamic_batch_scheduler.cc``): wait, at most for the delay, until a preferred size can be formed, and stop before the
largest of them would be exceeded. Under both, heads whose deadline cannot be met any more are dropped before anything
is spent on them; requests without a deadline never are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ortolan.execution.cost_curve import KNEE_TOLERANCE, CostCurve
from ortolan.repository.model_config import ModelConfig

# Up to an eighth of what waits is taken along beyond the knee; that is worth 0.1 % of all answers at 95 % load.
_STRAGGLERS = 8
_NEVER_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Batching:
    """What a version's batches may be. ``max_rows`` 1 means one request at a time."""

    max_rows: int = 1
    preferred_rows: tuple[int, ...] = ()
    max_delay_ns: int = 0
    explicit: bool = False
    reason: str = "the model has no batch dimension"
    """Why it is so, for people."""

    @staticmethod
    def of(config: ModelConfig, unsafe_because: str = "") -> "Batching":
        """The batching that ``config`` asks for; ``unsafe_because`` says why batching would change answers, if so."""
        dynamic = config.dynamic_batching
        if config.max_batch_size == 0:
            return Batching()
        if dynamic is None:
            return Batching(reason="the configuration has no dynamic_batching: requests run one by one")
        if config.max_batch_size == 1:
            return Batching(reason="max_batch_size is 1")
        if dynamic.explicit:
            preferred = tuple(sorted(dynamic.preferred_batch_sizes))
            delay_ns = dynamic.max_queue_delay_us * 1000
            return Batching(config.max_batch_size, preferred, delay_ns, True, "as the configuration says")
        if unsafe_because:
            return Batching(reason=f"not batched across requests, because {unsafe_because}")
        return Batching(config.max_batch_size, reason="automatic, by the measured cost curve")


class Waiting(Protocol):
    """What the decision has to know of a waiting request; ``shapes`` is equal for those that may share a batch.

    Times are of the monotonic clock; a deadline of 0 is none.
    """

    rows: int
    shapes: object
    enqueued_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Take:
    """Execute the first ``count`` requests of the head now."""

    count: int


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again when something arrives, at the latest at ``time_ns``."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Refuse the first ``count`` requests of the head, then decide again: they cannot be answered in time."""

    count: int


def decide(
    head: Sequence[Waiting],
    now_ns: int,
    batching: Batching,
    curve: CostCurve | None = None,
    idle_instances: int = 1,
) -> Take | WaitUntil | Drop:
    """What an idle instance does with the head of the line: at least one request, and one more than fits if there is.

    ``idle_instances`` counts those that could take a part of the head at the same moment, this one included.
    """
    fitting = _fitting(head, batching.max_rows)
    if hopeless := _hopeless(head, fitting, now_ns, _Plan(batching, curve, idle_instances)):
        return Drop(hopeless)
    if batching.explicit:
        return _decide_explicitly(head, fitting, now_ns, batching, curve)
    if curve is None or fitting.count == 1:
        return Take(fitting.count)
    return Take(_automatically(head, fitting, curve, idle_instances))


# -- the automatic rule --------------------------------------------------------------------------------------------


def _automatically(head: Sequence[Waiting], fitting: "_Fitting", curve: CostCurve, idle_instances: int) -> int:
    """How many requests make up the batch that this instance should run; at least 1."""
    share = -(-fitting.rows // idle_instances)
    wanted = _wanted_rows(share, curve)
    rows = 0
    for taken, request in enumerate(islice(head, fitting.count)):
        more = rows + request.rows
        if more > wanted and taken and (more > share or not _pays(curve, rows, more)):
            return taken
        rows = more
        if rows >= wanted:
            return taken + 1
    return fitting.count


def _wanted_rows(backlog: int, curve: CostCurve) -> int:
    """The knee, or all of the backlog if the knee would leave only stragglers, who would wait for a whole batch."""
    knee = curve.knee(backlog)
    return backlog if (backlog - knee) * _STRAGGLERS <= backlog else knee


def _pays(curve: CostCurve, rows: int, more: int) -> bool:
    """Whether a batch of ``more`` rows does clearly more of them per second than one of ``rows``."""
    return rows / curve.duration_ns(rows) < (1 - KNEE_TOLERANCE) * more / curve.duration_ns(more)


# -- Triton's rule -------------------------------------------------------------------------------------------------


def _decide_explicitly(
    head: Sequence[Waiting], fitting: "_Fitting", now_ns: int, batching: Batching, curve: CostCurve | None
) -> Take | WaitUntil:
    preferred = _largest_preferred(head, fitting.count, batching.preferred_rows)
    due_ns = min(request.enqueued_ns for request in islice(head, fitting.count)) + batching.max_delay_ns
    overdue = now_ns >= due_ns
    if preferred and (not overdue or batching.max_delay_ns == 0):
        return Take(preferred)
    ceiling = batching.preferred_rows[-1] if batching.preferred_rows else batching.max_rows
    if fitting.blocked or fitting.rows >= ceiling or overdue:
        return Take(fitting.count)
    # What Triton has no word for: a batch does not wait until a deadline in it cannot be met any more.
    latest_ns = min(due_ns, _latest_start_ns(head, fitting, ceiling, curve))
    return Take(fitting.count) if now_ns >= latest_ns else WaitUntil(latest_ns)


def _largest_preferred(head: Sequence[Waiting], count: int, preferred: Sequence[int]) -> int:
    """How many requests make up the largest preferred size that can be met; 0 where more requests may do better.

    Where none can be met exactly, these are the requests before the one that would exceed the largest.
    """
    best, rows = 0, 0
    for taken, request in enumerate(islice(head, count) if preferred else ()):
        if taken and not best and rows + request.rows > preferred[-1]:
            return taken
        rows += request.rows
        if rows in preferred:
            best = taken + 1
    return best


def _latest_start_ns(head: Sequence[Waiting], fitting: "_Fitting", ceiling: int, curve: CostCurve | None) -> int:
    """When a batch must start at the latest, however much it grows, for its members' deadlines."""
    deadlines = [request.deadline_ns for request in islice(head, fitting.count) if request.deadline_ns]
    if curve is None or not deadlines:
        return _NEVER_NS
    return min(deadlines) - int(curve.cautious_duration_ns(ceiling))


# -- what both need ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of the batches to come."""

    batching: Batching
    curve: CostCurve | None
    idle_instances: int

    def duration_ns(self, rows: int, first_rows: int) -> float:
        """How long the next batch may take where ``rows`` rows wait, ``first_rows`` of them in the first request."""
        if self.curve is None:
            return 0
        if not self.batching.explicit:
            rows = max(_wanted_rows(-(-rows // self.idle_instances), self.curve), first_rows)
        return self.curve.cautious_duration_ns(rows)


def _hopeless(head: Sequence[Waiting], fitting: "_Fitting", now_ns: int, plan: _Plan) -> int:
    """How many heads cannot meet their deadlines: the window of Nexus' early drop slides past them.

    A head is measured against the batch that it would be part of, not against the smaller one that would just save
    it: serving late heads in small batches wastes the capacity that those behind them need.
    """
    rows = fitting.rows
    for count, request in enumerate(islice(head, fitting.count)):
        if not request.deadline_ns or now_ns + plan.duration_ns(rows, request.rows) <= request.deadline_ns:
            return count
        rows -= request.rows
    if fitting.count == len(head) and now_ns < head[-1].deadline_ns:
        # An estimate never refuses the only one who waits: a curve that is too high would never be mended.
        return fitting.count - 1
    return fitting.count


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The longest head that can be one batch; ``blocked``: the next request cannot join it."""

    count: int
    rows: int
    blocked: bool


def _fitting(head: Sequence[Waiting], max_rows: int) -> _Fitting:
    first = head[0]
    count, rows = 1, first.rows
    for request in islice(head, 1, None) if max_rows > 1 else ():
        if rows + request.rows > max_rows or request.shapes != first.shapes:
            return _Fitting(count, rows, True)
        count += 1
        rows += request.rows
    return _Fitting(count, rows, max_rows == 1)
