"""``ModelStreamInfer``: many requests on one call, computed beside each other and answered in their order."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from ortolan.core.error_responses import GRPC
from ortolan.core.inference_core import InferenceCore
from ortolan.errors import Internal, OrtolanError, Unauthenticated, Unavailable
from ortolan.frontends import status
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.stream_room import StreamRoom
from ortolan.frontends.grpc.traced import OK, begun_trace, code_of
from ortolan.protocol import protobuf_codec
from ortolan.protocol.remembered_messages import RememberedMessages
from ortolan.protocol.serialized import Raw, Serialized, size_bytes

_log = logging.getLogger(__name__)


class InferenceStreams:
    """The streams that are open."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core
        self._requests = RememberedMessages()
        self._readers: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        """Let each stream answer what it has read, and end it then: an idle one would hold a stopping server up."""
        for reader in self._readers:
            reader.cancel()

    async def answers(self, requests: AsyncIterator[Raw], call: Call) -> AsyncGenerator[Serialized, None]:
        """A serialized ModelStreamInferResponse for each of ``requests``.

        What goes wrong with one request is told in its response, and the stream goes on; if the call's metadata
        say ``triton_grpc_error: true``, it is raised instead and ends the stream. Raises Unavailable when the server
        stops, after everything that was read has been answered.
        """
        stream = _Stream(self._core, call, self._requests)
        reader = asyncio.create_task(stream.read(requests))
        self._readers.add(reader)
        try:
            async for answer in stream.answers():
                yield answer
                # None is to stay while the next is waited for, which may be hours; here and below.
                del answer
            await _ended(reader)
        finally:
            self._readers.discard(reader)
            reader.cancel()
            await stream.abandon()


async def _ended(reader: "asyncio.Task[None]") -> None:
    """Nothing more is read. Raises why, where it was not the client who ended it."""
    await asyncio.wait([reader])
    if reader.cancelled():
        raise Unavailable("GRPC server is shutting down and has stopped accepting new requests.")
    reader.result()


class _Stream:
    """One stream: a task for each request, in a queue that keeps their order."""

    def __init__(self, core: InferenceCore, call: Call, requests: RememberedMessages) -> None:
        self._core = core
        self._call = call
        self._requests = requests
        self._order: asyncio.Queue[asyncio.Task[Serialized] | None] = asyncio.Queue()
        self._room = StreamRoom()

    async def read(self, requests: AsyncIterator[Raw]) -> None:
        """Start each request as it comes, until the client has sent its last."""
        try:
            async for data in requests:
                await self._room.free()
                self._room.enter(len(data))
                self._order.put_nowait(asyncio.create_task(self._answer(data)))
                del data
        finally:
            self._order.put_nowait(None)

    async def answers(self) -> AsyncIterator[Serialized]:
        """The answers to what was read, in its order, until reading has ended."""
        while (task := await self._order.get()) is not None:
            try:
                answer = await task
                # The next is asked for when gRPC has handed this one to the connection.
                yield answer
                self._room.leave(size_bytes(answer))
                del answer
            finally:
                task.cancel()
                del task

    async def abandon(self) -> None:
        """Give up what has not been answered, if anything: the client has gone, or an error ended the stream."""
        tasks = []
        while not self._order.empty():
            if (task := self._order.get_nowait()) is not None:
                task.cancel()
                tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, data: Raw) -> Serialized:
        answer = await self._encoded_answer(data)
        self._room.answer(len(data), size_bytes(answer))
        return answer

    async def _encoded_answer(self, data: Raw) -> Serialized:
        tracing = self._core.tracing
        trace = begun_trace(tracing, "ModelStreamInfer", self._call.metadata) if tracing.on else None
        code = OK
        try:
            self._call.look_again()
            request = self._call.on_request(self._requests.decode(data))
            response = await self._core.infer(request, trace)
            if self._call.note is not None:
                self._call.note.inferred(response)
            # Metadata are the call's, and each of its requests may have a trace of its own.
            traced = dict(trace.response_headers) if trace is not None else {}
            final = {**response.parameters, **traced, protobuf_codec.FINAL_RESPONSE: True}
            return protobuf_codec.encode_stream_response(replace(response, parameters=final))
        except OrtolanError as error:
            code = code_of(error)
            # Who is not known any more has no further answers, not even that.
            if self._call.wants_errors_raised() or isinstance(error, Unauthenticated):
                raise
            _log.debug("a request of a gRPC stream was refused: %s", error)
            self._core.errors.told(GRPC, status.grpc_code(error).name)
            return protobuf_codec.encode_stream_error(sendable(error.message), protobuf_codec.request_id(data))
        except Exception as error:
            code = code_of(error)
            told = status.foreseen(error)
            if told is None:
                note = self._call.note
                extra = {"request_id": note.request_id} if note is not None else None
                _log.exception("a request of a gRPC stream failed in an unforeseen way", extra=extra)
            self._core.errors.told(GRPC, status.grpc_code(told or Internal("")).name)
            text = status.INTERNAL_MESSAGE if told is None else told.message
            return protobuf_codec.encode_stream_error(text, protobuf_codec.request_id(data))
        except asyncio.CancelledError as error:
            code = code_of(error)
            raise
        finally:
            if trace is not None:
                trace.code = code
                trace.sent()
