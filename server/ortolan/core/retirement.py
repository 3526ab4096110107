"""Versions that have been replaced or unloaded: each answers what it holds, then its threads end."""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Collection, Iterator

from ortolan.core.model_version import ModelVersion
from ortolan.core.open_sequences import OpenSequences
from ortolan.core.served_version import ServedVersion

_JOIN_S = 10.0
# A thread that waited for a version's end may hold it a moment longer, which on a busy machine takes a while.
_LINGER_S = 1.0


def _nothing() -> None:
    """What happens after a version that nobody asks about any more."""


class Retirement:
    """The versions on their way out. Lives on the event loop."""

    def __init__(self, gone: Callable[[int], None] = lambda _: None) -> None:
        """``gone`` is told, once a version is, how much memory it held."""
        self._gone = gone
        self.open_sequences = OpenSequences()
        self._versions: set[ServedVersion] = set()
        self._ends: dict[asyncio.Future[None], str] = {}

    def __iter__(self) -> Iterator[ServedVersion]:
        return iter(tuple(self._versions))

    def retire(self, version: ServedVersion, then: Callable[[], None] = _nothing) -> None:
        """Let ``version`` answer what it holds, then let go of it and call ``then``."""
        self._versions.add(version)
        let_go, size_bytes = _let_go(version), version.memory.size_bytes
        task = asyncio.get_running_loop().create_task(self._end(version, then))
        name = version.name
        task.add_done_callback(lambda _: self._keep(asyncio.ensure_future(self._tell(let_go, size_bytes)), name))
        self._keep(task, name)

    async def _end(self, version: ServedVersion, then: Callable[[], None]) -> None:
        if isinstance(version, ModelVersion):
            await self.open_sequences.ended(version)
        version.refuse_new()
        await version.drained()
        await asyncio.to_thread(version.join, _JOIN_S)
        loaded = version.loaded
        if loaded is not None:
            await asyncio.to_thread(loaded.remove_files)
        self._versions.discard(version)
        then()

    def _keep(self, task: asyncio.Future[None], name: str) -> None:
        self._ends[task] = name
        task.add_done_callback(lambda ended: self._ends.pop(ended, None))

    async def _tell(self, let_go: asyncio.Event, size_bytes: int) -> None:
        """Tell that the version is gone, once its memory is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(let_go.wait(), _LINGER_S)
        self._gone(size_bytes)

    async def completed(self) -> None:
        """Return once every version that retires now is gone, which waits for no sequence any more."""
        self.open_sequences.let_all_go()
        await asyncio.gather(*self._ends)

    async def gone(self, names: Collection[str]) -> None:
        """Return once every version of these models that retires is gone, and its memory."""
        # The end of each begins the telling of it, which is waited for as well.
        while ends := [end for end, name in self._ends.items() if name in names]:
            await asyncio.wait(ends)


def _let_go(version: ServedVersion) -> asyncio.Event:
    """Set once nothing refers to ``version`` any more."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell() -> None:
        # The loop is gone when the server has stopped.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    weakref.finalize(version, tell).atexit = False
    return event
