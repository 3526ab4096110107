"""A status that many watch: one looks for all of them, since a look may go through other processes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable


class StatusWatch:
    """Looks while somebody watches. Lives on the event loop."""

    def __init__(self, status: Callable[[], Awaitable[int]], interval_s: float) -> None:
        self._status = status
        self._interval_s = interval_s
        self._watchers = 0
        self._looking: asyncio.Task[None] | None = None
        self._seen: int | None = None
        self._changed = asyncio.Condition()
        self._ending = asyncio.Event()
        self._over = False

    async def statuses(self) -> AsyncGenerator[int, None]:
        """For one watcher: the status now, and again whenever it is another, until the end."""
        self._watchers += 1
        self._looking = self._looking or asyncio.get_running_loop().create_task(self._look())
        try:
            await self._look_once()
            told = None
            while not self._over or told != self._seen:
                async with self._changed:
                    while not self._over and told == self._seen:
                        await self._changed.wait()
                if self._seen is not None and told != self._seen:
                    told = self._seen
                    yield told
        finally:
            self._watchers -= 1
            if not self._watchers and self._looking:
                self._looking.cancel()
                self._looking = None

    async def ended(self) -> None:
        """Return at the end, for who watches nothing."""
        await self._ending.wait()

    def end(self) -> None:
        """Tell all watchers what is so now, and let them go."""
        self._ending.set()

    async def _look(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._interval_s)
            await self._look_once()
        async with self._changed:
            self._over = True
            self._changed.notify_all()

    async def _look_once(self) -> None:
        status = await self._status()
        async with self._changed:
            if status != self._seen:
                self._seen = status
                self._changed.notify_all()
