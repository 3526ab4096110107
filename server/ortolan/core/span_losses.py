"""Spans counted on their way to the receiver, and the operator told of those that are lost: once a minute at most."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)
_TELLING_EACH_S = 60.0


class SpanLosses:
    """What became of each span. The event loop and the thread that sends both tell it."""

    def __init__(self, receiver: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``receiver``: what to call it in a log."""
        self._receiver = receiver
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = 0
        self._sent = 0
        self._lost = 0
        self._told = 0
        self._told_s: float | None = None

    @property
    def waiting(self) -> int:
        """Spans in the queue: neither taken to be sent yet nor dropped."""
        return self._waiting

    @property
    def sent(self) -> int:
        return self._sent

    @property
    def lost(self) -> int:
        """Spans that the receiver did not get."""
        return self._lost

    def put(self, count: int) -> None:
        """So many enter the queue."""
        with self._lock:
            self._waiting += count

    def taken(self, count: int) -> None:
        """So many are out of the queue, and about to be sent."""
        with self._lock:
            self._waiting -= count

    def succeeded(self, count: int) -> None:
        with self._lock:
            self._sent += count

    def dropped(self, count: int) -> None:
        """So many found the queue full."""
        self._lose(count, "they come faster than they are taken, and the queue is full")

    def failed(self, count: int, why: str) -> None:
        """So many could not be sent."""
        self._lose(count, why or "it did not take them in time")

    def end(self) -> None:
        """Nothing is sent any more: what waits is lost, and what has not been told yet is told."""
        with self._lock:
            left, self._waiting = self._waiting, 0
            self._lost += left
            untold = self._lost - self._told
        if untold:
            _log.warning("%d spans did not reach %s before the server ended", untold, self._receiver)

    def _lose(self, count: int, why: str) -> None:
        now_s = self._clock()
        with self._lock:
            self._lost += count
            if self._told_s is not None and now_s - self._told_s < _TELLING_EACH_S:
                return
            self._told_s = now_s
            untold, self._told = self._lost - self._told, self._lost
            lost = self._lost
        text = "%d spans did not reach %s (%s); requests are answered all the same. Lost since the start: %d"
        _log.warning(text, untold, self._receiver, why, lost)
