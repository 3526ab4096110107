"""A body as it comes: in chunks, or, where it is large, into the memory in which it stays."""

import asyncio

from ortolan.errors import OutOfMemory
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.http_request import Body
from ortolan.protocol.gathered_bytes import GatheredBytes

# Below, to keep chunks and join them costs less.
_LARGE_BYTES = 64 << 10
# More of them are small ones, of which each would take more for itself than for what is in it.
_MOST_CHUNKS = 16


class IncomingBody:
    """Holds no byte of a body that is too large, whether it says so or turns out to be."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_declared_bytes",
        "_gathered",
        "_has_room",
        "_limit",
        "_size",
        "_waiter",
        "_wanted",
    )

    def __init__(self, declared_bytes: int | None, limit: BodyLimit) -> None:
        self._declared_bytes = declared_bytes or 0
        self._limit = limit
        self._chunks: list[bytes] = []
        self._gathered: GatheredBytes | None = None
        self._size = 0
        self._complete = False
        self._has_room = True
        self._wanted = self._declared_bytes <= limit.most_bytes
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it is not too large yet, and not dropped."""
        return self._wanted

    @property
    def to_come(self) -> int:
        """How many more bytes are to come, where that is known and they are wanted."""
        return max(0, self._declared_bytes - self._size) if self._wanted else 0

    def feed(self, chunk: bytes) -> int:
        """Take the next bytes; how many more are to come, where that is known and they are wanted."""
        self._size += len(chunk)
        if self._size > self._limit.most_bytes and self._wanted:
            self.drop()
        if not self._wanted:
            return 0
        if self._size == len(chunk) or self._is_cheap_to_join():
            self._chunks.append(chunk)
            return self._declared_bytes - self._size
        try:
            self._gather().add(chunk)
        except MemoryError:
            self._drop_without_room()
            return 0
        return self._declared_bytes - self._size

    def buffer_for_rest(self) -> memoryview | None:
        """Where the rest is to be written; then it is ``complete``. The memory is taken only as it is written to.

        None where there is none left: the body is dropped.
        """
        try:
            return self._gather().rest()
        except MemoryError:
            self._drop_without_room()
            return None

    def complete(self) -> None:
        """Nothing more will come."""
        self._complete = True
        self._wake()

    def drop(self) -> None:
        """Nobody wants it: the request is answered, or refused."""
        self._wanted = False
        self._chunks = []
        self._gathered = None
        self._wake()

    async def whole(self) -> Body:
        """All of it, once. Raises the limit's refusal as soon as it is larger, OutOfMemory where there is no room."""
        if not self._complete and self._wanted:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if not self._has_room:
            raise OutOfMemory(
                "there is no memory left for the request's body: send it to another server, or again later"
            )
        if not self._wanted:
            raise self._limit.refusal(max(self._size, self._declared_bytes))
        chunks, self._chunks = self._chunks, []
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            return gathered.whole()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _drop_without_room(self) -> None:
        self._has_room = False
        self.drop()

    def _is_cheap_to_join(self) -> bool:
        return self._gathered is None and self._size < _LARGE_BYTES and len(self._chunks) < _MOST_CHUNKS

    def _gather(self) -> GatheredBytes:
        """Where the chunks are put together from now on."""
        if self._gathered is None:
            self._gathered = GatheredBytes(self._declared_bytes or self._limit.most_bytes)
            for chunk in self._chunks:
                self._gathered.add(chunk)
            self._chunks = []
        return self._gathered

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
