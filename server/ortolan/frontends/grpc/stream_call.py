"""A call of any number of messages each way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from ortolan.errors import InvalidArgument
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.connection_life import Pace
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_call import Http2Call, packed
from ortolan.frontends.grpc.methods import StreamMethod
from ortolan.protocol.grpc_framing import Message, MessageReader, framed
from ortolan.protocol.serialized import Raw


class StreamCall(Http2Call):
    """Any number of messages each way; what is not read yet keeps the client from sending more."""

    __slots__ = ("_came", "_ended", "_left", "_method", "_unread_bytes")

    def __init__(
        self,
        method: StreamMethod,
        call: Call,
        answer: Http2Answer,
        reader: MessageReader,
        flush: Callable[[], None],
    ) -> None:
        super().__init__(call, answer, reader, flush)
        self._method = method
        self._unread_bytes = 0
        self._ended = False
        self._came = asyncio.Event()
        self._left = asyncio.Event()

    def feed(self, data: bytes | memoryview, ended: bool) -> None:
        self._unread_bytes += len(data)
        self._reader.feed(data)
        if ended and self._reader.within:
            raise InvalidArgument("the call ended within a message")
        self._ended = ended
        if not self._reader.within:
            self._pace = None
        elif self._pace is None:
            self._pace = Pace(asyncio.get_running_loop().time(), self._answer.received_bytes)
        if self._reader.whole or ended:
            self._came.set()
            # Not before: some clients take an answer to a call that they are still beginning for a transport's fault.
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run())
        else:
            # A message larger than the window would never be whole.
            self._release()

    def sent(self) -> None:
        self._left.set()

    @property
    def _owed(self) -> bool:
        return self._reader.within

    async def _respond(self) -> None:
        encoding = self._answer.encoding
        async with aclosing(self._method(self._requests(), self._call)) as responses:
            async for response in responses:
                self._answer.message(framed(response) if encoding is None else await packed(response, encoding))
                del response
                self._flush()
                await self._all_left()
        self._answer.finish(self._call.trailers)

    async def _requests(self) -> AsyncIterator[Raw]:
        while True:
            while self._reader.whole:
                # Without a name here, under which it would stay while the next is waited for.
                yield await self._decoded(self._next())
            if self._ended:
                return
            self._came.clear()
            await self._came.wait()

    def _next(self) -> Message:
        message = self._reader.take()
        if not self._reader.whole:
            self._release()
        return message

    def _release(self) -> None:
        self._answer.take_more(self._unread_bytes)
        self._unread_bytes = 0
        self._flush()

    async def _all_left(self) -> None:
        """Return when the client's windows have let through what was answered."""
        while self._answer.waiting_bytes:
            self._left.clear()
            await self._left.wait()
