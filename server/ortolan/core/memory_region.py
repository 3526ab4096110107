"""A client's memory that requests read and write: what regions of every kind have in common."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar

from ortolan.errors import InvalidArgument
from ortolan.inference.shared_memory import SharedMemorySlice

_P = ParamSpec("_P")
_T = TypeVar("_T")


class MemoryRegion(ABC):
    """``size_bytes`` bytes that a client registered as ``name``.

    Belongs to the registry and to the requests that use it, each of which holds it once; the last to let go closes it.
    ``hold`` is for those to whom someone who holds it gave it. Holding and letting go may happen in any thread.
    """

    kind: ClassVar[str]
    """As the protocol's routes and messages say it: ``system`` or ``cuda``."""

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self._lock = threading.Lock()
        self._holders = 1

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        if self._let_go_last():
            self._close()

    def let_go_on_loop(self) -> None:
        """As ``let_go``, on the event loop, which is not held up by what takes long to close."""
        if self._let_go_last():
            self._close_on_loop()

    def _let_go_last(self) -> bool:
        with self._lock:
            self._holders -= 1
            return not self._holders

    def _close_on_loop(self) -> None:
        self._close()

    def check(self, place: SharedMemorySlice) -> None:
        """Raises InvalidArgument when ``place`` is not wholly inside."""
        if place.offset >= self.size_bytes:
            raise InvalidArgument(
                f"Invalid offset for shared memory region: '{self.name}'. It has {self.size_bytes} bytes, got the "
                f"offset {place.offset}"
            )
        if place.size_bytes > self.size_bytes - place.offset:
            raise InvalidArgument(
                f"Invalid offset + byte size for shared memory region: '{self.name}'. It has {self.size_bytes} bytes, "
                f"got the offset {place.offset} and {place.size_bytes} bytes"
            )

    @abstractmethod
    async def read(self, offset: int, size: int) -> memoryview:
        """A copy of ``size`` bytes from ``offset`` on, which no client can change any more."""

    @abstractmethod
    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data``, which fits, at ``offset``."""

    @abstractmethod
    def _close(self) -> None:
        """Give the memory back; called once, in any thread."""

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What ``work`` returns, called in a thread; the region stays open until then, whoever gives up waiting."""
        self.hold()

        def held_work() -> _T:
            try:
                return work(*args, **kwargs)
            finally:
                self.let_go()

        # Without the shield, work that had not begun when its request was cancelled would never let go.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, held_work))
