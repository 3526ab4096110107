"""Loads that clients ask for: how many may wait, with how many bytes, and what becomes of them when their client goes.

What clients ask of one model is done in the order in which they asked. A load that has begun goes on without its
client: who asks again finds the model loading, or loaded. One that only waits, for those before it or for one of the
places, ends with its client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ortolan.errors import Unavailable

_T = TypeVar("_T")

_MOST_WAITING = 64
_MOST_WAITING_BYTES = 1 << 30
_STOPPING = "the server is stopping and loads nothing any more"


class Turn:
    """One load's place among those that wait, and then among those that go on at once."""

    def __init__(self, line: "ClientLoads", size_bytes: int, for_request: bool = False) -> None:
        self.waits = True
        self.for_request = for_request
        self.ends_with_client = True
        self._line = line
        self._bytes_held = size_bytes

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """Wait until there is a place; the block is the load, which its client's going does not end any more."""
        async with self._line.places:
            self.waits = self.ends_with_client = False
            yield

    def keep(self) -> None:
        """What is done before there is a place is not to be lost when the client goes."""
        self.ends_with_client = False

    def let_go(self) -> None:
        """The bytes that came with the load are not in memory any more."""
        self._line.waiting_bytes -= self._bytes_held
        self._bytes_held = 0


class ClientLoads:
    """All such loads of a server. Lives on the event loop."""

    def __init__(self, at_once: int, most: int = _MOST_WAITING, most_bytes: int = _MOST_WAITING_BYTES) -> None:
        """``at_once`` loads go on beside each other; ``most`` may wait, and keep ``most_bytes`` with those under way.

        One load alone may bring more.
        """
        self.places = asyncio.Semaphore(at_once)
        self.waiting_bytes = 0
        self._most = most
        self._most_bytes = most_bytes
        self._tasks: dict[asyncio.Task[object], Turn] = {}
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    async def run(
        self, size_bytes: int, load: Callable[[Turn], Coroutine[Any, Any, _T]], for_request: bool = False
    ) -> _T:
        """What ``load`` returns, which brings ``size_bytes``.

        One ``for_request`` of a model that is not there is refused for no others, nor others for it: each model has one
        at most, and how many requests may wait for it is limited elsewhere. Raises Unavailable when too much waits or
        the server stops, and what ``load`` raises.
        """
        if self._closed:
            raise Unavailable(_STOPPING)
        if not for_request:
            self._refuse_more(size_bytes)
        turn = Turn(self, size_bytes, for_request)
        self.waiting_bytes += size_bytes
        # The task keeps nothing of what the caller has: when the client goes, only the load itself holds its bytes.
        task = self._begin(load(turn), turn)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if turn.waits and task.cancelled() and self._closed:
                raise Unavailable(_STOPPING) from None
            if turn.ends_with_client:
                task.cancel()
            raise

    async def run_beside(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What ``work`` returns or raises, which needs no place and does not end with its client: an unload."""
        turn = Turn(self, 0)
        turn.waits = turn.ends_with_client = False
        return await asyncio.shield(self._begin(work, turn))

    def order(self, name: str) -> asyncio.Lock:
        """Held for what clients ask of the model ``name``: the last one to ask decides."""
        return self._orders.setdefault(name, asyncio.Lock())

    def _begin(self, work: Coroutine[Any, Any, _T], turn: Turn) -> "asyncio.Task[_T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = turn
        task.add_done_callback(self._end)
        return task

    def _refuse_more(self, size_bytes: int) -> None:
        waiting = sum(turn.waits and not turn.for_request for turn in self._tasks.values())
        if waiting >= self._most:
            raise Unavailable(f"{waiting} loads wait already, which is as many as may; retry later")
        if self.waiting_bytes and self.waiting_bytes + size_bytes > self._most_bytes:
            raise Unavailable(
                f"loads that wait hold {self.waiting_bytes} bytes of files already and may hold {self._most_bytes}; "
                "retry later"
            )

    def _end(self, task: "asyncio.Task[_T]") -> None:
        self._tasks.pop(task).let_go()
        if not task.cancelled():
            # Told to whoever still waits; asyncio would log it as forgotten where no one does.
            task.exception()

    def close(self) -> None:
        """Refuse those that wait, and those that come; what has begun goes on."""
        self._closed = True
        for task, turn in list(self._tasks.items()):
            if turn.waits:
                task.cancel()

    def give_up(self) -> None:
        """End those that go on as well; a thread that is inside one goes on until the runtime lets go of it."""
        self.close()
        for task in list(self._tasks):
            task.cancel()
