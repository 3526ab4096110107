"""What comes in pieces, put together as it comes: in memory of its own, so that no piece is kept and none is joined."""

import sys

import numpy as np

from ortolan.protocol.serialized import Raw

# So many times what came there may be room for. What is not written to takes no memory, but addresses are not endless.
_AHEAD = 64
# What numpy allocates from here on, it asks Linux to keep in pages of two megabytes.
_HUGE_PAGES_FROM_BYTES = 4 << 20
_HUGE_PAGE_BYTES = 2 << 20 if sys.platform == "linux" else 1


class GatheredBytes:
    """Pieces of what has at most ``most_bytes``; where it has exactly as many, nothing is held twice but a 64th.

    Where there are fewer in the end, the first megabyte of 64, or another 64th of the most, may be for a moment.
    """

    __slots__ = ("_most_bytes", "_room", "size_bytes")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._room = memoryview(bytearray())
        self.size_bytes = 0
        """How many bytes came."""

    @property
    def held_bytes(self) -> int:
        """How many bytes of memory they take."""
        page_bytes = _HUGE_PAGE_BYTES if len(self._room) >= _HUGE_PAGES_FROM_BYTES else 1
        return min(len(self._room), -(-self.size_bytes // page_bytes) * page_bytes)

    def add(self, piece: Raw) -> None:
        """Take the next bytes, of which there are not more than are left."""
        size_bytes = self.size_bytes + len(piece)
        if size_bytes > len(self._room):
            self._move(self._room_for(size_bytes), self.size_bytes)
        self._room[self.size_bytes : size_bytes] = piece
        self.size_bytes = size_bytes

    def rest(self) -> memoryview:
        """Where all that is still to come is to be written; it counts as having come."""
        start, self.size_bytes = self.size_bytes, self._most_bytes
        self._move(self._most_bytes, start)
        return self._room[start:]

    def whole(self) -> memoryview:
        """A read-only view of all that came."""
        return self._room[: self.size_bytes].toreadonly()

    def _room_for(self, size_bytes: int) -> int:
        room_bytes = self._most_bytes
        while room_bytes > _AHEAD * size_bytes:
            room_bytes = -(-room_bytes // _AHEAD)
        return room_bytes

    def _move(self, room_bytes: int, size_bytes: int) -> None:
        """Into room for ``room_bytes``, the ``size_bytes`` that are there."""
        room = np.empty(room_bytes, np.uint8).data
        room[:size_bytes] = self._room[:size_bytes]
        self._room = room
