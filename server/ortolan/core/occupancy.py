"""Who is inside a version, or relies on it: it closes only once nobody is. Lives on the event loop."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ortolan.errors import Unavailable


def _nothing() -> None:
    """What closing does the second time."""


class Occupancy:
    """Counts requests inside one version, and the ensembles that may still send it some.

    While somebody is inside, others are let in even if the version is about to close: they are the steps of a request
    that is inside already.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        """``close`` is called once: when the version is to close and nobody is inside any more."""
        self._close = close
        self._inside = 0
        self._closing = False
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> None:
        """Raises Unavailable once the version is closed."""
        if self._closed:
            raise Unavailable("Server is stopping, scheduler for model has stopped accepting new inference requests")
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()
            self._look()

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def close_when_empty(self) -> None:
        self._closing = True
        self._look()

    async def emptied(self) -> None:
        """Return once nobody is inside."""
        await self._empty.wait()

    def _look(self) -> None:
        if self._closing and not self._inside and not self._closed:
            self._closed = True
            close, self._close = self._close, _nothing  # or the version and this would keep each other
            close()
