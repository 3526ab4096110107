"""What calls on our own transport have in common: messages in, a method run, an answer out."""

import asyncio
import logging
import math
import time
from collections.abc import Callable

import grpc

from ortolan.errors import DeadlineExceeded, Internal, OrtolanError
from ortolan.frontends import status
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.connection_life import Pace
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_exchange import TOO_SLOW, Exchange
from ortolan.frontends.grpc.noted import trailers_of
from ortolan.protocol.grpc_framing import Message, MessageReader, decompressed, framed
from ortolan.protocol.serialized import Raw, Serialized, size_bytes

_log = logging.getLogger(__name__)

_CANCELLED = "the call was cancelled"
_TOO_LATE = "Deadline Exceeded"
AFTER_DEADLINE_S = 0.02
"""So long after its deadline a call is ended here: the core ends its requests itself, and says more of them."""
# Decompressing more than this takes longer than handing it to a thread.
_THREAD_FROM_BYTES = 4096
# Compressing so much takes two milliseconds, in which nobody else would be served.
_PACKING_THREAD_FROM_BYTES = 32_768


class Http2Call(Exchange):
    """What calls of both kinds have in common."""

    __slots__ = ("_answer", "_call", "_flush", "_pace", "_reader", "_task")

    def __init__(self, call: Call, answer: Http2Answer, reader: MessageReader, flush: Callable[[], None]) -> None:
        """``flush``: called when there is something to send."""
        self._call = call
        self._answer = answer
        self._reader = reader
        self._flush = flush
        self._pace: Pace | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def held_bytes(self) -> int:
        return self._reader.held_bytes

    @property
    def is_within(self) -> bool:
        return self._reader.within

    @property
    def _owed(self) -> bool:
        """Whether the client is to send something before anything can go on here."""
        raise NotImplementedError

    def cancel(self) -> None:
        self._answer.gone()
        self._reader.drop()
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: OrtolanError) -> None:
        if self._call.note is not None:
            self._call.note.failed(error)
        self._answer.fail(status.grpc_code(error), sendable(error.message), trailers_of(self._call.note))
        self.cancel()

    def look_at_the_clock(self, now_s: float) -> float:
        ends_s = now_s + self._left_s()
        if ends_s <= now_s:
            self.fail(DeadlineExceeded(_TOO_LATE))
            return math.inf
        if self._pace is None:
            return ends_s
        if self._pace.too_slow(now_s, self._owed and self._answer.may_receive, self._answer.received_bytes):
            self.fail(DeadlineExceeded(TOO_SLOW))
            return math.inf
        return min(ends_s, self._pace.ends_s)

    def _left_s(self) -> float:
        """How long the call may go on."""
        deadline_ns = self._call.deadline_ns
        return (deadline_ns - time.monotonic_ns()) / 1e9 + AFTER_DEADLINE_S if deadline_ns else math.inf

    async def _decoded(self, message: Message) -> Raw:
        if message.encoding is None or len(message.data) < _THREAD_FROM_BYTES:
            return decompressed(message, self._reader.limit_bytes)
        return await asyncio.to_thread(decompressed, message, self._reader.limit_bytes)

    async def _run(self) -> None:
        """Answer, whatever comes of it."""
        try:
            await self._respond()
        except OrtolanError as error:
            self._refuse(error)
        except asyncio.CancelledError:
            # Not always its client's doing.
            self._answer.fail(grpc.StatusCode.CANCELLED, _CANCELLED)
            raise
        except Exception as error:
            self._fail_unforeseen(error)
        finally:
            self._reader.drop()
            self._flush()

    async def _respond(self) -> None:
        raise NotImplementedError

    def _refuse(self, error: OrtolanError) -> None:
        if self._call.note is not None:
            self._call.note.failed(error)
        _log.debug("a call over gRPC was refused: %s", error)
        self._answer.fail(status.grpc_code(error), sendable(error.message), self._call.trailers)

    def _fail_unforeseen(self, error: Exception) -> None:
        told = status.foreseen(error)
        if told is not None:
            self._refuse(told)
            return
        note = self._call.note
        extra = None
        if note is not None:
            note.error = Internal.__name__
            extra = {"request_id": note.request_id}
        _log.error("a gRPC call failed in an unforeseen way", exc_info=error, extra=extra)
        self._answer.fail(grpc.StatusCode.INTERNAL, status.INTERNAL_MESSAGE, self._call.trailers)


async def packed(message: Serialized, encoding: str) -> tuple[Raw, ...]:
    """``message``, framed and compressed; beside the event loop where that takes long."""
    if size_bytes(message) < _PACKING_THREAD_FROM_BYTES:
        return framed(message, encoding)
    return await asyncio.to_thread(framed, message, encoding)
