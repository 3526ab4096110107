"""One admitted request on its way through a version's queue, and how it may leave it without an answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ortolan.errors import OrtolanError
from ortolan.execution.graph_request import GraphRequest
from ortolan.execution.running import Running
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import Array


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One admitted request on its way through a version's queue. Times are of the monotonic clock; 0 is none."""

    inputs: Mapping[str, Array]
    output_names: tuple[str, ...]
    rows: int
    shapes: object
    """Equal for requests that may share a batch."""
    enqueued_ns: int
    answer_to: Any
    """What the scheduler needs to hand the answer back; the queue does not look at it."""
    size_bytes: int = 0
    priority: int = 0
    queue_deadline_ns: int = 0
    """When it has waited as long as its queue policy or its own timeout allows."""
    deadline_ns: int = 0
    """When its client will not want the answer any more."""
    running: "Running[QueuedRequest] | None" = None
    waiting: bool = False

    @property
    def row_bytes(self) -> int:
        """The size of one of its rows."""
        return self.size_bytes // self.rows if self.rows else 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that left the queue without being executed, and why."""

    request: QueuedRequest
    error: OrtolanError


def queued(asked: GraphRequest, line: LinePolicy, answer_to: "asyncio.Future[Any]", now_ns: int) -> QueuedRequest:
    """``asked`` as it enters the queue now, with the time that ``line`` lets it wait."""
    limits = asked.limits
    timeout_us = line.queue_timeout_us(line.level_of(limits.priority), limits.timeout_us)
    return QueuedRequest(
        asked.inputs,
        asked.output_names,
        asked.rows,
        asked.shapes,
        now_ns,
        answer_to,
        size_bytes=asked.size_bytes,
        priority=limits.priority,
        queue_deadline_ns=now_ns + timeout_us * 1000 if timeout_us else 0,
        deadline_ns=limits.deadline_ns,
    )
