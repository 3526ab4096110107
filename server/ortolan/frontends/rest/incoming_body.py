"""A body as it comes: in chunks, or, where it is large, into the memory in which it stays."""

import asyncio

from ortolan.frontends.rest.compression import too_large
from ortolan.frontends.rest.http_request import Body
from ortolan.protocol.gathered_bytes import GatheredBytes

# Below, to keep chunks and join them costs less.
_LARGE_BYTES = 64 << 10
# More of them are small ones, of which each would take more for itself than for what is in it.
_MOST_CHUNKS = 16


class IncomingBody:
    """Holds no byte of a body that is too large, whether it says so or turns out to be."""

    __slots__ = ("_chunks", "_complete", "_declared_bytes", "_gathered", "_limit_bytes", "_size", "_waiter", "_wanted")

    def __init__(self, declared_bytes: int | None, limit_bytes: int) -> None:
        self._declared_bytes = declared_bytes or 0
        self._limit_bytes = limit_bytes
        self._chunks: list[bytes] = []
        self._gathered: GatheredBytes | None = None
        self._size = 0
        self._complete = False
        self._wanted = self._declared_bytes <= limit_bytes
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
        if self._size > self._limit_bytes and self._wanted:
            self.drop()
        if not self._wanted:
            return 0
        if self._size == len(chunk) or self._is_cheap_to_join():
            self._chunks.append(chunk)
        else:
            self._gather().add(chunk)
        return self._declared_bytes - self._size

    def buffer_for_rest(self) -> memoryview:
        """Where the rest is to be written; then it is ``complete``. The memory is taken only as it is written to."""
        return self._gather().rest()

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
        """All of it, once. Raises InvalidArgument as soon as it is larger than the limit."""
        if not self._complete and self._wanted:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if not self._wanted:
            raise too_large(max(self._size, self._declared_bytes), self._limit_bytes, "request")
        chunks, self._chunks = self._chunks, []
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            return gathered.whole()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _is_cheap_to_join(self) -> bool:
        return self._gathered is None and self._size < _LARGE_BYTES and len(self._chunks) < _MOST_CHUNKS

    def _gather(self) -> GatheredBytes:
        """Where the chunks are put together from now on."""
        if self._gathered is None:
            self._gathered = GatheredBytes(self._declared_bytes or self._limit_bytes)
            for chunk in self._chunks:
                self._gathered.add(chunk)
            self._chunks = []
        return self._gathered

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
