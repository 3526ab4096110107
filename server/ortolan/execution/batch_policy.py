"""When to close a batch: a pure decision over the queue's head, without clock or lock.

Greedy: a free instance never waits and takes what has queued, in order, as far as it fits. Only where the
configuration asks for a delay or for preferred sizes does the decision follow Triton's rules
(``dynamic_batch_scheduler.cc``): wait, at most for the delay, until a preferred size can be formed, and stop before the
largest of them would be exceeded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ortolan.repository.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Batching:
    """What a model's configuration says of batching. ``max_rows`` 1 means one request at a time."""

    max_rows: int = 1
    preferred_rows: tuple[int, ...] = ()
    max_delay_ns: int = 0

    @staticmethod
    def of(config: ModelConfig) -> "Batching":
        dynamic = config.dynamic_batching
        if dynamic is None or config.max_batch_size <= 1:
            return Batching()
        preferred = dynamic.preferred_batch_sizes if dynamic.explicit else ()
        return Batching(config.max_batch_size, tuple(sorted(preferred)), dynamic.max_queue_delay_us * 1000)


class Waiting(Protocol):
    """What the decision has to know of a waiting request; ``shapes`` is equal for those that may share a batch."""

    rows: int
    shapes: object
    enqueued_ns: int


@dataclass(frozen=True, slots=True)
class Take:
    """Execute the first ``count`` requests of the queue now."""

    count: int


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again when something arrives, at the latest at ``time_ns``."""

    time_ns: int


def decide(waiting: Sequence[Waiting], now_ns: int, batching: Batching) -> Take | WaitUntil:
    """What to do with the waiting requests, of which there is at least one."""
    fitting = _fitting(waiting, batching.max_rows)
    if batching.max_delay_ns == 0 and not batching.preferred_rows:
        return Take(fitting.count)
    preferred = _largest_preferred(waiting, fitting.count, batching.preferred_rows)
    due_ns = waiting[0].enqueued_ns + batching.max_delay_ns
    overdue = now_ns >= due_ns
    if preferred and (not overdue or batching.max_delay_ns == 0):
        return Take(preferred)
    ceiling = batching.preferred_rows[-1] if batching.preferred_rows else batching.max_rows
    if fitting.blocked or fitting.rows >= ceiling or overdue:
        return Take(fitting.count)
    return WaitUntil(due_ns)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The longest head of the queue that can be one batch; ``blocked``: the next request cannot join it."""

    count: int
    rows: int
    blocked: bool


def _fitting(waiting: Sequence[Waiting], max_rows: int) -> _Fitting:
    first = waiting[0]
    count, rows = 1, first.rows
    for request in islice(waiting, 1, None) if max_rows > 1 else ():
        if rows + request.rows > max_rows or request.shapes != first.shapes:
            return _Fitting(count, rows, True)
        count += 1
        rows += request.rows
    return _Fitting(count, rows, max_rows == 1)


def _largest_preferred(waiting: Sequence[Waiting], count: int, preferred: Sequence[int]) -> int:
    """How many requests make up the largest preferred size that can be met; 0 where more requests may do better.

    Where none can be met exactly, these are the requests before the one that would exceed the largest.
    """
    best, rows = 0, 0
    for taken, request in enumerate(islice(waiting, count) if preferred else ()):
        if taken and not best and rows + request.rows > preferred[-1]:
            return taken
        rows += request.rows
        if rows in preferred:
            best = taken + 1
    return best
