"""Page-locked host memory, lent as arrays: a block comes back when the last view of its array has gone.

A GPU copies to and from such memory by itself, while the processor goes on. Allocating it takes long, so blocks are
kept; it cannot be swapped out, so there is a limit, beyond which ordinary memory is lent.
"""

import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_SMALLEST = 4096


class HostBuffers:
    """Lends arrays of bytes. Safe from any thread."""

    def __init__(self, allocate: Callable[[int], int], free: Callable[[int], None], limit_bytes: int) -> None:
        """``allocate`` gives the address of so many page-locked bytes, or raises MemoryError."""
        self._allocate = allocate
        self._free = free
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0
        # Arrays go whenever the garbage collector comes by, perhaps in a thread that has the lock: so what comes back
        # needs none.
        self._idle: deque[tuple[int, int]] = deque()
        weakref.finalize(self, _free_all, self._idle, free).atexit = False

    @property
    def held_bytes(self) -> int:
        """What is allocated, lent or idle."""
        return self._held_bytes

    def lend(self, size_bytes: int) -> Bytes:
        """An array of ``size_bytes`` arbitrary bytes; of ordinary memory where the limit is reached."""
        room = max(_SMALLEST, 1 << max(0, size_bytes - 1).bit_length())
        with self._lock:
            address = self._taken(room)
        if address is None:
            return np.empty(size_bytes, np.uint8)
        block = (ctypes.c_uint8 * max(1, size_bytes)).from_address(address)
        weakref.finalize(block, self._idle.append, (address, room)).atexit = False
        # Views of the array refer to the block; it refers to the pool, so that the memory outlives both.
        block.owner = self  # type: ignore[attr-defined]
        return np.frombuffer(memoryview(block), np.uint8)[:size_bytes]

    def give_back(self) -> None:
        """Free what is idle."""
        with self._lock:
            self._release(None)

    def _taken(self, room: int) -> int | None:
        for _ in range(len(self._idle)):
            address, size = self._idle.popleft()
            if size == room:
                return address
            self._idle.append((address, size))
        if self._held_bytes + room > self._limit_bytes:
            self._release(room)
        if self._held_bytes + room > self._limit_bytes:
            return None
        try:
            address = self._allocate(room)
        except MemoryError:
            return None
        self._held_bytes += room
        return address

    def _release(self, needed: int | None) -> None:
        """Free idle blocks until there is room for ``needed`` bytes, or all."""
        while self._idle and (needed is None or self._held_bytes + needed > self._limit_bytes):
            address, size = self._idle.popleft()
            self._free(address)
            self._held_bytes -= size


def _free_all(idle: deque[tuple[int, int]], free: Callable[[int], None]) -> None:
    while idle:
        free(idle.popleft()[0])
