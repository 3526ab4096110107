"""Which rows of a lane run now: a pure decision over the requests that are next, without clock or lock.

The rule is Triton's for the direct strategy: what is ready runs, unless less than the declared share of the lane's
slots is ready and the oldest of the requests has not waited for the declared delay yet. Only requests of equal shapes
share a batch; the oldest one decides which.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Ready(Protocol):
    """What has to be known of a request; ``shapes`` is equal for those that may share a batch."""

    @property
    def enqueued_ns(self) -> int: ...

    @property
    def shapes(self) -> object: ...


@dataclass(frozen=True, slots=True)
class LaneRule:
    """How long a lane of ``rows`` slots waits for how much of them. No delay: not at all."""

    rows: int
    delay_ns: int = 0
    minimum_utilization: float = 0.0


@dataclass(frozen=True, slots=True)
class RunRows:
    """Execute the requests that are next in these rows."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again when something arrives, at the latest at ``time_ns``."""

    time_ns: int


def decide(ready: Mapping[int, Ready], now_ns: int, rule: LaneRule) -> RunRows | WaitUntil:
    """What a lane that is free does with the requests that are next, by row: at least one."""
    oldest = min(ready.values(), key=lambda request: request.enqueued_ns)
    rows = tuple(sorted(row for row, request in ready.items() if request.shapes == oldest.shapes))
    due_ns = oldest.enqueued_ns + rule.delay_ns
    if now_ns < due_ns and len(rows) < rule.minimum_utilization * rule.rows:
        return WaitUntil(due_ns)
    return RunRows(rows)
