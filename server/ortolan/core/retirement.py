"""Versions that have been replaced or unloaded: each answers what it holds, then its threads end."""

import asyncio
from collections.abc import Callable, Iterator

from ortolan.core.model_version import ModelVersion
from ortolan.core.open_sequences import OpenSequences
from ortolan.core.served_version import ServedVersion

_JOIN_S = 10.0


def _nothing() -> None:
    """What happens after a version that nobody asks about any more."""


class Retirement:
    """The versions on their way out. Lives on the event loop."""

    def __init__(self, gone: Callable[[int], None] = lambda _: None) -> None:
        """``gone`` is told, once a version is, how much memory it held."""
        self._gone = gone
        self.open_sequences = OpenSequences()
        self._versions: set[ServedVersion] = set()
        self._ends: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[ServedVersion]:
        return iter(tuple(self._versions))

    def retire(self, version: ServedVersion, then: Callable[[], None] = _nothing) -> None:
        """Let ``version`` answer what it holds, then let go of it and call ``then``."""
        self._versions.add(version)
        task = asyncio.get_running_loop().create_task(self._end(version, then))
        self._ends.add(task)
        # Only now nothing refers to the version any more.
        size_bytes = version.memory.size_bytes
        task.add_done_callback(lambda _: self._gone(size_bytes))
        task.add_done_callback(self._ends.discard)

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

    async def completed(self) -> None:
        """Return once every version that retires now is gone, which waits for no sequence any more."""
        self.open_sequences.let_all_go()
        await asyncio.gather(*self._ends)
