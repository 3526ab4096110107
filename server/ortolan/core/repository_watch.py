"""When to look at the repository again: on file events, while something there does not rest, and from time to time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ortolan.repository.file_events import FileEvents

# Threads that begin to wait for events may miss what happens until they do.
_FIRST_LOOK_S = 1.0
_SHORTEST_S = 0.05


class RepositoryWatch:
    """Lives on the event loop."""

    def __init__(self, roots: Sequence[Path], poll_s: float, quiet_s: float) -> None:
        """Looks every ``poll_s`` without events, and every ``quiet_s`` while files change."""
        self._roots = roots
        self._poll_s = poll_s
        self._quiet_s = max(quiet_s, _SHORTEST_S)
        self._changed = asyncio.Event()
        self._events = FileEvents((), lambda: None)

    async def run(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Call ``look`` for ever; it says whether to look again soon."""
        # After a change there may be other directories than those that are listened to.
        stale = True
        try:
            while True:
                await self._look_until_it_rests(look)
                if stale:
                    self._listen()
                    stale = await self._wait(min(_FIRST_LOOK_S, self._poll_s))
                else:
                    stale = await self._wait(self._poll_s) or self._events.lacks_roots
        finally:
            self._events.stop()

    async def _look_until_it_rests(self, look: Callable[[], Awaitable[bool]]) -> None:
        self._changed.clear()
        restless = await look()
        while restless:
            await asyncio.sleep(self._quiet_s)
            restless = await look()

    async def _wait(self, seconds: float) -> bool:
        """Whether an event came, within so many seconds."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _listen(self) -> None:
        self._events.stop()
        loop = asyncio.get_running_loop()
        self._events = FileEvents(self._roots, lambda: _tell(loop, self._changed))
        self._events.start()


def _tell(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    # A thread may be late: the server's loop has ended by then.
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed.set)
