"""A call of one message and one answer: by its method, or straight from the queue where its form is known."""

import asyncio
from collections.abc import Callable

from ortolan.errors import InvalidArgument, OrtolanError, Unsupported
from ortolan.execution.answer import Answer
from ortolan.execution.direct_request import DirectRequest
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.connection_life import Pace
from ortolan.frontends.grpc.direct_inferences import KnownMessage
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_call import Http2Call, packed
from ortolan.frontends.grpc.methods import UnaryRpc
from ortolan.protocol.grpc_framing import NO_READER, Message, MessageReader, only_message


class UnaryCall(Http2Call):
    """One message, one answer."""

    __slots__ = ("_begun_s", "_came", "_known", "_limit_bytes", "_make_reader", "_message", "_request", "_rpc")

    def __init__(
        self,
        rpc: UnaryRpc,
        call: Call,
        answer: Http2Answer,
        limit_bytes: int,
        make_reader: Callable[[], MessageReader],
        flush: Callable[[], None],
        now_s: float,
    ) -> None:
        """``make_reader`` is for messages of at most ``limit_bytes`` that do not come in one piece."""
        super().__init__(call, answer, NO_READER, flush)
        self._rpc = rpc
        self._limit_bytes = limit_bytes
        self._make_reader = make_reader
        self._begun_s = now_s
        self._came = False
        self._message: Message | None = None
        self._known: KnownMessage | None = None
        self._request: DirectRequest | None = None

    def feed(self, data: bytes | memoryview, ended: bool) -> None:
        reader = self._reader
        if reader is NO_READER:
            if ended and (message := only_message(data, self._limit_bytes)) is not None:
                self._begin(message)
                return
            reader = self._reader = self._make_reader()
        reader.feed(data)
        if reader.whole > 1 or (reader.whole and reader.within):
            raise Unsupported("this method takes one message")
        if not ended:
            self._answer.take_more(len(data))
        elif not reader.whole:
            raise InvalidArgument("the call ended without a whole message")
        else:
            self._pace = None
            self._begin(reader.take())

    def look_at_the_clock(self, now_s: float) -> float:
        if not self._came and self._pace is None:
            self._pace = Pace(self._begun_s)
        return super().look_at_the_clock(now_s)

    def cancel(self) -> None:
        super().cancel()
        if self._request is not None:
            self._request.cancel()
            self._request = None

    # What the scheduler tells of a direct request

    def answered(self, answer: Answer) -> None:
        direct, known = self._rpc.direct, self._known
        self._request = None
        try:
            assert direct is not None and known is not None  # noqa: S101, PT018 - they began it
            if self._call.note is not None:
                known.form.tell(self._call.note)
            self._answer.whole(direct.encoded(known, answer, self._call), self._call.trailers)
        except OrtolanError as error:
            self.refused(error)
        except Exception as error:
            self._fail_unforeseen(error)
        self._flush()

    def refused(self, error: OrtolanError) -> None:
        self._request = None
        self._refuse(error)
        self._flush()

    # Inside

    @property
    def _owed(self) -> bool:
        return not self._came

    def _begin(self, message: Message) -> None:
        self._came = True
        if not self._begin_directly(message):
            self._message = message
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _begin_directly(self, message: Message) -> bool:
        """Ask without a coroutine. False where the method has to be run."""
        direct = self._rpc.direct
        if direct is None or message.encoding is not None or self._answer.encoding is not None:
            return False
        begun = direct.begin(message.data, self._call, self)
        if begun is None:
            return False
        self._known, self._request = begun
        return True

    async def _respond(self) -> None:
        message, self._message = self._message, None
        assert message is not None  # noqa: S101 - it is what this answers
        data = message.data if message.encoding is None else await self._decoded(message)
        response = await self._rpc.run(data, self._call)
        if self._answer.encoding is not None:
            self._answer.message(await packed(response, self._answer.encoding))
            self._answer.finish(self._call.trailers)
            return
        self._answer.whole(response, self._call.trailers)
        if self._rpc.direct is not None and message.encoding is None:
            # Behind the answer.
            self._flush()
            asyncio.get_running_loop().call_soon(self._rpc.direct.learn, data)
