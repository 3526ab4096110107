"""The streams of one connection that are open: how they begin, and the ways in which they end."""

from ortolan.http2 import frames
from ortolan.http2.events import Http2Events
from ortolan.http2.faults import ConnectionFault, ErrorCode, StreamFault
from ortolan.http2.flood_guard import FloodGuard
from ortolan.http2.header_blocks import HeaderList
from ortolan.http2.limits import Http2Limits
from ortolan.http2.outgoing import Outgoing
from ortolan.http2.stream import Stream

NO_STREAM_YET = 2**31 - 1
# Data that came in vain cost no more than others once their frame has so many; below, it is the frame that costs.
_FAIR_BYTES = 1024
# What an answer gives back: a client may acknowledge its data, ping, and end a call or two besides.
_EARNED_BY_ANSWER = 4


class OpenStreams:
    """What reading a request's fields cost is asked for where they were read in vain, and given back with an answer."""

    def __init__(self, limits: Http2Limits, events: Http2Events, guard: FloodGuard, outgoing: Outgoing) -> None:
        self._limits = limits
        self._events = events
        self._guard = guard
        self._outgoing = outgoing
        self.by_id: dict[int, Stream] = {}
        self.last_id = 0
        self.answered_up_to = NO_STREAM_YET
        self.hearing = False
        """Whether what happens comes of what the peer just sent."""

    def begin(self, stream_id: int, headers: HeaderList, effort: int, ended: bool) -> None:
        """A request came, whose fields cost ``effort``."""
        self.last_id = stream_id
        if stream_id > self.answered_up_to or len(self.by_id) >= self._limits.concurrent_streams:
            self._guard.spend(1 + effort, "requests beside those that are open")
            self._outgoing.pieces.append(frames.rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
            return
        stream = Stream(stream_id, self._limits.stream_window, self._outgoing.initial_window)
        self.by_id[stream_id] = stream
        self._guard.request_begun()
        stream.receiving = not ended
        stream.effort = effort
        stream.declared = headers.content_length
        if headers.malformed or not headers.is_request or (ended and stream.declared):
            self.break_off(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, headers.malformed or "this is no request"))
            return
        self._events.requested(stream, headers, ended)

    def answered(self, stream: Stream) -> None:
        """Our side of the stream is done."""
        if not self.hearing or stream.sent:
            self._guard.earn(_EARNED_BY_ANSWER + stream.effort)
        elif stream.effort:
            # Whoever answers so soon refuses.
            self._guard.spend(stream.effort, "header fields")
        if self.by_id.pop(stream.id, None) is not None and stream.receiving:
            # What the client still wants to send, nobody needs.
            self._outgoing.pieces.append(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
        stream.sending = stream.receiving = False
        # Stream and owner refer to each other, and neither is to wait for the garbage collector.
        stream.owner = None

    def sent(self, streams: list[Stream]) -> None:
        """Of none of ``streams`` do data wait any more."""
        for stream in streams:
            if stream.trailers is not None:
                self._outgoing.trailers(stream, stream.trailers)
                self.answered(stream)
            else:
                self._events.sent(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """We end it at once."""
        if self.by_id.pop(stream.id, None) is not None:
            self._forget(stream)
            stream.owner = None
            self._outgoing.pieces.append(frames.rst_stream(stream.id, code))

    def reset_came(self, stream_id: int) -> None:
        """The client ended it."""
        stream = self.by_id.pop(stream_id, None)
        if stream is None:
            self.refuse_idle(stream_id)
        else:
            self._cancel(stream)
        self._guard.spend(1 + (stream.effort if stream is not None else 0), "streams that the client reset")

    def break_off(self, stream: Stream, fault: StreamFault) -> None:
        """The client broke the stream's rules."""
        self._guard.spend(1 + stream.effort, f"streams with faults ({fault})")
        if self.by_id.pop(stream.id, None) is not None:
            self._outgoing.pieces.append(frames.rst_stream(stream.id, fault.code))
            self._cancel(stream)

    def late_data(self, stream_id: int, stream: Stream | None, size: int) -> None:
        """Data came for a stream that takes none any more: normal behind a reset of ours, a fault after its end."""
        if stream is not None:
            self.break_off(stream, StreamFault(ErrorCode.STREAM_CLOSED, "data after the end"))
            return
        self.refuse_idle(stream_id)
        if size < _FAIR_BYTES:
            self._guard.spend(1, "data on streams that have ended")

    def refuse_idle(self, stream_id: int) -> None:
        """Raises ConnectionFault for a stream that was not begun."""
        if stream_id > self.last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was not begun")

    def abandon(self) -> None:
        """The connection is over: each is cancelled."""
        streams = [*self.by_id.values()]
        self.by_id.clear()
        for stream in streams:
            self._cancel(stream)

    def _forget(self, stream: Stream) -> None:
        """Nothing more of the stream comes or goes."""
        self._outgoing.forget(stream)
        stream.sending = stream.receiving = False

    def _cancel(self, stream: Stream) -> None:
        self._forget(stream)
        self._events.cancelled(stream)
        stream.owner = None
