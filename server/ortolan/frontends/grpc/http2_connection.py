"""One client's connection to the gRPC port, on our own transport; on one port for both it may carry REST as well."""

import asyncio
import math
import random
from collections.abc import Callable
from typing import cast

from ortolan.errors import NoRoom, OrtolanError, Unavailable
from ortolan.frontends import status
from ortolan.frontends.access.peer import Peer
from ortolan.frontends.grpc.connection_life import LEAVING_S, ConnectionLife, Step
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.http2_answer import Http2Answer
from ortolan.frontends.grpc.http2_call import AFTER_DEADLINE_S
from ortolan.frontends.grpc.http2_exchange import Carrier, Exchange, held_by, outlives_goaway
from ortolan.frontends.grpc.http2_service import GrpcService, refuse
from ortolan.frontends.grpc.lingering import Lingering
from ortolan.frontends.grpc.noted import trailers_of
from ortolan.frontends.grpc.request_head import Refusal, RequestHead
from ortolan.frontends.held_bytes import UNCOUNTED_BYTES
from ortolan.http2.connection import Http2Connection
from ortolan.http2.faults import ConnectionFault, ErrorCode
from ortolan.http2.header_blocks import HeaderList
from ortolan.http2.stream import Stream
from ortolan.protocol.grpc_framing import ByteCount

_LAST_REQUESTS = b"goodbye?"
_ARE_YOU_THERE = b"anybody?"
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.01, 30.0
# Answers without data, and acknowledgements, are bound by no window: a client that does not read them is not read from.
_MOST_UNREAD_BYTES = 4 << 20
# Data in scraps cost as much as frames that say nothing.
_SCRAP_BYTES = 256
_UNAVAILABLE = "the server stopped before the call was answered"
_NO_ROOM = "the server holds too many bytes of requests that are not whole and answers that are not taken; try again"


class GrpcConnection(asyncio.Protocol):
    """Bytes of a socket ⇄ calls. Lives on the event loop."""

    def __init__(
        self,
        service: GrpcService,
        opened: Callable[["GrpcConnection"], None],
        closed: Callable[["GrpcConnection"], None],
    ) -> None:
        """``opened`` is told when the connection stands, ``closed`` when it is over."""
        self._service = service
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._http2 = Http2Connection(service.limits, self, self._loop.time())
        self._transport: asyncio.Transport
        self._lingering: Lingering
        self._carrier: Carrier
        self._flush_comes = False
        self._answers = 0
        self._unfinished = ByteCount()
        self._held_bytes = 0
        self._deaf = False
        self._carries_others = False
        self._awaited: list[int] | None = None
        self._life = ConnectionLife(service.keep_alive, self._loop.time(), random.uniform(0.9, 1.1))  # noqa: S311 - no secret
        self._look_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._lingering = Lingering(self._transport)
        peer = Peer(transport)
        self._carrier = Carrier(self._http2, self._unfinished, self._flush_soon, self.leave, self._transport, peer)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            # RFC 9113, section 3.3: over TLS, both sides have to have agreed on HTTP/2.
            self._transport.abort()
            return
        self._http2.open()
        self._flush()
        self._look_at_the_clock()
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering.begun:
            return
        now_s = self._life.heard_s = self._loop.time()
        self._http2.receive(data, now_s)
        self._flush()
        self._close_when_done()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        for timer in (self._timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self._lingering.cancel()
        self._http2.abandon()
        self._service.held.tell(self, 0)
        self._closed(self)

    def pause_writing(self) -> None:
        self._http2.outgoing.paused = True

    def resume_writing(self) -> None:
        self._http2.outgoing.paused = False
        if self._deaf:
            self._deaf = False
            self._transport.resume_reading()
        self._flush()

    # The streams

    def requested(self, stream: Stream, headers: HeaderList, ended: bool) -> None:
        head = self._service.head(headers)
        if isinstance(head, RequestHead):
            note = self._service.note(head, self._carrier.peer)
            try:
                now_s = self._life.heard_s
                stream.owner = self._service.call(
                    head, self._http2, stream, self._unfinished, self._flush_soon, now_s, self._carrier.peer, note
                )
                if head.timeout_s is not None:
                    self._look_by(now_s + head.timeout_s + AFTER_DEADLINE_S)
            except OrtolanError as error:
                if note is not None:
                    note.failed(error)
                is_probe = head.rpc is not None and head.rpc.name.is_probe
                answer = Http2Answer(self._http2, stream, None if is_probe else self._service.errors, note)
                answer.fail(status.grpc_code(error), sendable(error.message), trailers_of(note))
        elif isinstance(head, Refusal):
            note = self._service.note(head, self._carrier.peer)
            refuse(Http2Answer(self._http2, stream, self._service.errors, note), head)
        else:
            self._carries_others = True
            stream.owner = head.begin(stream, self._carrier)
        if ended:
            self.data_came(stream, b"", ended)

    def data_came(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        exchange = cast("Exchange | None", stream.owner)
        if exchange is None:
            return
        try:
            exchange.feed(data, ended)
        except OrtolanError as error:
            exchange.fail(error)
        except MemoryError as error:
            exchange.fail(status.foreseen(error) or Unavailable(_UNAVAILABLE))
        if len(data) < _SCRAP_BYTES and not ended and exchange.is_within:
            self._http2.useless_came("messages in scraps")

    def cancelled(self, stream: Stream) -> None:
        if stream.owner is not None:
            cast("Exchange", stream.owner).cancel()

    def sent(self, stream: Stream) -> None:
        if stream.owner is not None:
            cast("Exchange", stream.owner).sent()

    def pinged(self) -> None:
        if self._life.too_many_pings(self._loop.time(), bool(self._http2.streams)):
            # The text that clients know: they ping less often on their next connection.
            self._http2.end(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings"))

    def ponged(self, payload: bytes) -> None:
        self._life.ponged()
        if payload == _LAST_REQUESTS and self._end_timer is not None:
            self.drain()

    # The end

    def leave(self) -> None:
        """Ask the client to begin no more calls here; those that it has begun meanwhile are answered still."""
        begun = self._awaited is not None or self._end_timer is not None or self._http2.leaving
        if begun or self._transport.is_closing():
            return
        if not self._http2.settled:
            # It has begun nothing, and would not answer our ping.
            self.drain()
        else:
            self._awaited = [stream.id for stream in self._http2.streams.values() if not outlives_goaway(stream)]
            self._close_when_done()

    def drain(self) -> None:
        """Begin no call any more; close once those that run are answered."""
        self._awaited = None
        if not self._http2.leaving and not self._transport.is_closing():
            self._http2.go_away()
            self._flush()
            self._close_when_done()

    def abort_calls(self) -> None:
        """Answer whatever still runs with Unavailable, and close."""
        for stream in [*self._http2.streams.values()]:
            if stream.owner is not None:
                cast("Exchange", stream.owner).fail(Unavailable(_UNAVAILABLE))
        self._flush()
        self._close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._transport.abort()

    def let_go(self) -> int:
        """End the call that holds most (``held_bytes.Holder``)."""
        largest = max(self._http2.streams.values(), key=held_by, default=None)
        if largest is None or not held_by(largest):
            self._transport.abort()
            self._held_bytes = 0
            return 0
        exchange = cast("Exchange | None", largest.owner)
        if largest.unsent_bytes:
            # gRPC's clients take this code for RESOURCE_EXHAUSTED: there is no other way to end a message midway.
            self._http2.reset(largest, ErrorCode.ENHANCE_YOUR_CALM)
        if exchange is not None:
            exchange.fail(NoRoom(_NO_ROOM))
        self._flush_soon()
        self._held_bytes = self._held()
        return self._held_bytes

    # Inside

    def _say_goodbye(self) -> None:
        self._awaited = None
        self._http2.go_away_soon()
        self._http2.ping(_LAST_REQUESTS)
        self._flush()
        self._end_timer = self._loop.call_later(LEAVING_S, self.drain)

    def _look_at_the_clock(self) -> None:
        now_s = self._loop.time()
        http2, outgoing = self._http2, self._http2.outgoing
        exchanges = [cast("Exchange", stream.owner) for stream in http2.streams.values() if stream.owner is not None]
        look_s = min([exchange.look_at_the_clock(now_s) for exchange in exchanges], default=math.inf)
        self._life.opened = http2.settled
        step, again_s = self._life.step(
            now_s, bool(http2.streams), outgoing.waits, outgoing.sent_bytes, http2.within, http2.frames
        )
        if step is Step.CLOSE:
            self._transport.abort()
            return
        if step is Step.PING:
            http2.ping(_ARE_YOU_THERE)
        elif step is Step.LEAVE:
            self.leave()
        self._flush()
        self._close_when_done()
        self._look_s = now_s + min(max(min(again_s, look_s) - now_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
        self._timer = self._loop.call_at(self._look_s, self._look_at_the_clock)

    def _look_by(self, at_s: float) -> None:
        """Look at the clock at ``at_s``, where that would come later."""
        if at_s < self._look_s and self._timer is not None:
            self._timer.cancel()
            self._look_s = at_s
            self._timer = self._loop.call_at(at_s, self._look_at_the_clock)

    def _flush_soon(self) -> None:
        """Send what is there once everything that is ready now has answered: one write for many answers."""
        if not self._flush_comes:
            self._flush_comes = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_comes = False
        self._flush()
        self._close_when_done()

    def _flush(self) -> None:
        transport = self._transport
        http2, outgoing = self._http2, self._http2.outgoing
        if outgoing.pieces or outgoing.waits:
            while pieces := http2.to_send():
                if not self._lingering.begun and not transport.is_closing():
                    transport.writelines(pieces)
                if not outgoing.waits:
                    break
        if outgoing.answers != self._answers:
            self._answers = outgoing.answers
            self._life.answered()
        held_bytes = self._held()
        if held_bytes != self._held_bytes:
            self._held_bytes = held_bytes
            self._service.held.tell(self, held_bytes)
        if outgoing.paused and not self._deaf and transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            self._deaf = True
            transport.pause_reading()

    def _held(self) -> int:
        """How many bytes wait here for the client, where they are worth counting."""
        unsent_bytes = self._http2.outgoing.unsent_bytes + self._transport.get_write_buffer_size()
        held_bytes = self._unfinished.bytes + unsent_bytes
        return held_bytes if held_bytes > UNCOUNTED_BYTES else 0

    def _close_when_done(self) -> None:
        if self._awaited is not None and self._http2.streams.keys().isdisjoint(self._awaited):
            if self._carries_others:
                # Their clients know which requests to send again, and Python's h2 takes no ping behind a GOAWAY.
                self.drain()
            else:
                self._say_goodbye()
        if self._http2.fault is not None or (self._http2.leaving and not self._http2.streams):
            self._close()

    def _close(self) -> None:
        self._awaited = None
        self._lingering.begin()
