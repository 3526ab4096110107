"""Runs that take too long: ends them, and tells which versions cannot run any more.

A run is ended inside ONNX Runtime, which works between the nodes of a graph and inside its loops, not inside one long
node. Its requests are answered at once in any case; a version whose run does not end is not ready until it does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from ortolan.errors import DeadlineExceeded
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.running import Running
from ortolan.execution.sequence_scheduler import AnyScheduler

INTERVAL_S = 0.02
# How often to see whether a version has come that wants watching.
_IDLE_INTERVAL_S = 0.5
# How long an ended run may take to stop before its version counts as hung.
STOPPING_S = 0.5


class Watchdog:
    """Watches the schedulers that ``schedulers`` gives, on the event loop."""

    def __init__(self, schedulers: Callable[[], Iterable[AnyScheduler]]) -> None:
        self._schedulers = schedulers
        self._ended: dict[Running[QueuedRequest], float] = {}

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            watched = any(scheduler.plan.max_execution_s for scheduler in self._schedulers())
            await asyncio.sleep(INTERVAL_S if watched else _IDLE_INTERVAL_S)
            self.look(time.monotonic_ns())

    def look(self, now_ns: int) -> None:
        """End every run that has taken longer than its version allows."""
        seen: set[Running[QueuedRequest]] = set()
        for scheduler in self._schedulers():
            limit_s = scheduler.plan.max_execution_s
            if not limit_s:
                continue
            for instance in scheduler.instances:
                running = instance.running
                if running is None:
                    continue
                seen.add(running)
                if now_ns - running.started_ns > limit_s * 1e9 and running not in self._ended:
                    self._ended[running] = now_ns
                    scheduler.fail_running(running, _took_too_long(limit_s))
                if self._does_not_stop(running, now_ns):
                    instance.lose_resources()
        self._ended = {running: since for running, since in self._ended.items() if running in seen}

    def hangs(self, scheduler: AnyScheduler) -> bool:
        """Whether a run of ``scheduler`` was ended and has not stopped."""
        now_ns = time.monotonic_ns()
        return any(
            instance.running is not None and self._does_not_stop(instance.running, now_ns)
            for instance in scheduler.instances
        )

    def _does_not_stop(self, running: Running[QueuedRequest], now_ns: int) -> bool:
        return now_ns - self._ended.get(running, now_ns) > STOPPING_S * 1e9


def _took_too_long(limit_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the model took longer than the {limit_s:g} s that --max-execution-secs or its own parameter allows"
    )
