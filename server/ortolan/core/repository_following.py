"""Follows the repository: looks again and again, and brings each model that changed to what is there now.

Models do not wait for each other: while one is being loaded the others are followed on, and of what happens to it
meanwhile only the last counts. Lives on the event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ortolan.repository.changes import RepositoryFollower
from ortolan.repository.directory import RepositoryListing
from ortolan.repository.file_contents import rests
from ortolan.repository.model_directory import ModelEntry

_log = logging.getLogger(__name__)

Settle = Callable[[str, ModelEntry | None], Awaitable[object]]
"""Brings a model to its entry; to nothing where there is none any more."""


class RepositoryFollowing:
    """Which models are being brought to what is on disk."""

    def __init__(self, settle: Settle, quiet_s: float) -> None:
        """``quiet_s`` is how long a model's files must have stayed as they are before it is loaded."""
        self._settle = settle
        self._follower = RepositoryFollower(quiet_s)
        self._asked: dict[str, ModelEntry | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start_from(self, listing: RepositoryListing) -> None:
        """Take ``listing`` for loaded, but for models that may have been written while they were."""
        self._follower.start_from(listing)
        for name, entry in listing.models.items():
            if not all(rests(fact) for fact in entry.fingerprint):
                self._follower.doubt(name)

    def follow(self, listing: RepositoryListing) -> bool:
        """Begin to follow what changed and rests by now; whether anything does not rest yet."""
        found = self._follower.follow(listing, asyncio.get_running_loop().time())
        coming = [self._ask(name, listing.models[name]) for name in (*found.appeared, *found.changed)]
        for name in found.vanished:
            # A model that was renamed is there under its new name before it goes under the old one.
            self._ask(name, None, coming)
        return self._follower.waits

    async def completed(self) -> None:
        """Return once everything that was begun is done."""
        await asyncio.gather(*self._tasks.values())

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _ask(self, name: str, entry: ModelEntry | None, after: Sequence[asyncio.Task[None]] = ()) -> asyncio.Task[None]:
        self._asked[name] = entry
        if name not in self._tasks:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._keep_up(name, after))
            self._tasks[name].add_done_callback(lambda task: self._end(name, task))
        return self._tasks[name]

    async def _keep_up(self, name: str, after: Sequence[asyncio.Task[None]]) -> None:
        if after:
            await asyncio.wait(after)
        while name in self._asked:
            await self._settle(name, self._asked.pop(name))

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        del self._tasks[name]
        if not task.cancelled() and (error := task.exception()):
            # Whatever it was: the model is tried again when it changes, and the others are followed on.
            _log.error("following model '%s' failed in an unforeseen way", name, exc_info=error)
        if name in self._asked and not task.cancelled():
            self._ask(name, self._asked[name])
