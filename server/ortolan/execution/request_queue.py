"""Where requests wait: clients put, idle instances take. Bounded, first in first out.

A request is in exactly one of three states, and every way out of ``waiting`` goes through this class: ``put`` lets it
wait, ``take`` hands it to one instance, ``remove`` takes it back. So each admitted request is answered exactly once.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ortolan.errors import QueueFull, Unavailable
from ortolan.execution.batch_policy import Batching, Take, decide
from ortolan.inference.datatypes import Array


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One admitted request on its way through a version's queue."""

    inputs: Mapping[str, Array]
    output_names: tuple[str, ...]
    rows: int
    shapes: object
    """Equal for requests that may share a batch."""
    enqueued_ns: int
    answer_to: Any
    """What the scheduler needs to hand the answer back; the queue does not look at it."""
    waiting: bool = True


class RequestQueue:
    """The queue of one model version. All methods may be called from any thread."""

    def __init__(self, batching: Batching, capacity: int, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._batching = batching
        self._capacity = capacity
        self._clock_ns = clock_ns
        self._waiting: deque[QueuedRequest] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: QueuedRequest) -> None:
        """Let ``request`` wait. Raises QueueFull at the capacity and Unavailable once the queue is closed."""
        with self._changed:
            if self._closed:
                raise Unavailable(
                    "Server is stopping, scheduler for model has stopped accepting new inference requests"
                )
            if len(self._waiting) >= self._capacity:
                raise QueueFull(
                    f"Exceeds maximum queue size: {self._capacity} requests wait already. Send fewer at a time, or "
                    "retry later."
                )
            self._waiting.append(request)
            self._changed.notify()

    def remove(self, request: QueuedRequest) -> bool:
        """Take ``request`` back before it is executed. False when an instance has it already, or had it."""
        with self._changed:
            if not request.waiting:
                return False
            request.waiting = False
            self._waiting.remove(request)
            return True

    def take(self) -> list[QueuedRequest]:
        """The next batch; blocks until there is one. Empty once the queue is closed and nothing waits any more."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                now_ns = self._clock_ns()
                decision = decide(self._waiting, now_ns, self._batching)
                if isinstance(decision, Take):
                    return self._pop(decision.count)
                self._changed.wait((decision.time_ns - now_ns) / 1e9)

    def _pop(self, count: int) -> list[QueuedRequest]:
        batch = [self._waiting.popleft() for _ in range(count)]
        for request in batch:
            request.waiting = False
        if self._waiting:
            # One notification may have stood for several requests; another idle instance can take the rest.
            self._changed.notify()
        return batch

    def close(self) -> None:
        """Refuse further requests; those that wait are still taken."""
        with self._changed:
            self._closed = True
            # Nothing more will come that would be worth a delay.
            self._batching = Batching(self._batching.max_rows)
            self._changed.notify_all()
