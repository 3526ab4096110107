"""Waiting at start for a model repository that is mounted late, with few words about it.

A pod's volume may come as a symbolic link that another container makes when it has been fetched, minutes later.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ortolan.repository.directory import RepositoryListing

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
# Told at once, then at twice the time each: a dozen lines in a day.
_FIRST_REMINDER_S = 15.0


async def await_repository(look: Callable[[], Awaitable[RepositoryListing]], wait_s: float) -> None:
    """Return once ``look`` finds every part of the repository, or when ``wait_s`` have passed without."""
    clock = asyncio.get_running_loop().time
    start_s, pause_s, reminder_s = clock(), _FIRST_PAUSE_S, 0.0
    while unreadable := (await look()).unreadable:
        waited_s = clock() - start_s
        if waited_s >= wait_s:
            return
        if waited_s >= reminder_s:
            reasons = "; ".join(unreadable.values())
            _log.warning("waiting for the model repository, for %.0f s at most: %s", wait_s - waited_s, reasons)
            reminder_s = max(_FIRST_REMINDER_S, 2 * reminder_s)
        await asyncio.sleep(min(pause_s, wait_s - waited_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
