"""Runs that take too long: ends them, and tells which versions cannot run any more.

A run is ended inside ONNX Runtime, which works between the nodes of a graph and inside its loops, not inside one long
node. Its requests are answered at once in any case. A version of which every instance is inside a run that was ended
and does not stop hangs: it is not ready, and what waits for it is refused, until one of them comes back.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from ortolan.errors import DeadlineExceeded, Unavailable
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.running import Running
from ortolan.execution.sequence_scheduler import AnyScheduler

# How often to look where a run is about to be ended, or hangs; and where nothing is.
INTERVAL_S = 0.02
_IDLE_INTERVAL_S = 0.5
# How long a run that took too long may take to stop before it counts as hung.
STOPPING_S = 0.5
# The same of one that nobody wants any more: it may be an honest one inside a long operator.
UNWANTED_STOPPING_S = 30.0


class Watchdog:
    """Watches the schedulers that ``schedulers`` gives, on the event loop."""

    def __init__(self, schedulers: Callable[[], Iterable[AnyScheduler]]) -> None:
        self._schedulers = schedulers
        self._hung_from_ns: dict[Running[QueuedRequest], float] = {}
        """The runs that were ended and have not stopped, and from when on each counts as hung."""

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            next_s = self.look(time.monotonic_ns())
            await asyncio.sleep(min(max(next_s, INTERVAL_S), _IDLE_INTERVAL_S))

    def look(self, now_ns: int) -> float:
        """End every run that has taken longer than its version allows; in how many seconds to look again."""
        seen: set[Running[QueuedRequest]] = set()
        next_s = _IDLE_INTERVAL_S
        for scheduler in self._schedulers():
            limit_s = scheduler.plan.max_execution_s
            # A run may begin right after this.
            next_s = min(next_s, limit_s or next_s)
            for instance in scheduler.instances:
                running = instance.running
                if running is None:
                    continue
                seen.add(running)
                next_s = min(next_s, self._look_at(running, scheduler, now_ns))
                if self._does_not_stop(running, now_ns):
                    instance.lose_resources()
            if self._hangs(scheduler, now_ns):
                scheduler.refuse_waiting(_hangs())
        self._hung_from_ns = {run: since for run, since in self._hung_from_ns.items() if run in seen}
        return next_s

    def hangs(self, scheduler: AnyScheduler) -> bool:
        """Whether every instance of ``scheduler`` is inside a run that was ended and has not stopped."""
        return self._hangs(scheduler, time.monotonic_ns())

    def _hangs(self, scheduler: AnyScheduler, now_ns: int) -> bool:
        return bool(self._hung_from_ns) and all(
            instance.running is not None and self._does_not_stop(instance.running, now_ns)
            for instance in scheduler.instances
        )

    def _look_at(self, running: Running[QueuedRequest], scheduler: AnyScheduler, now_ns: int) -> float:
        """End the run if its time is over; in how many seconds to look at it again."""
        if running in self._hung_from_ns:
            return INTERVAL_S
        limit_s = scheduler.plan.max_execution_s
        left_s = limit_s - (now_ns - running.started_ns) / 1e9
        if limit_s and left_s <= 0:
            self._hung_from_ns[running] = now_ns + STOPPING_S * 1e9
            scheduler.fail_running(running, _took_too_long(limit_s))
            return INTERVAL_S
        if running.abandoned:
            self._hung_from_ns[running] = now_ns + UNWANTED_STOPPING_S * 1e9
            return INTERVAL_S
        return left_s if limit_s else _IDLE_INTERVAL_S

    def _does_not_stop(self, running: Running[QueuedRequest], now_ns: int) -> bool:
        return now_ns > self._hung_from_ns.get(running, now_ns)


def _took_too_long(limit_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the model took longer than the {limit_s:g} s that --max-execution-secs or its own parameter allows"
    )


def _hangs() -> Unavailable:
    return Unavailable(
        "the model hangs: each of its instances is inside a run that was ended and does not stop. Send the request to "
        "another server, or again later"
    )
