"""The server's side of one connection: what comes in becomes events, what is sent becomes bytes."""

from collections.abc import Mapping

from ortolan.http2 import frames
from ortolan.http2.events import Http2Events
from ortolan.http2.faults import ConnectionFault, ErrorCode, StreamFault
from ortolan.http2.flood_guard import FloodGuard
from ortolan.http2.frame_reader import FrameReader
from ortolan.http2.header_blocks import HeaderList, HeaderReader
from ortolan.http2.limits import Http2Limits
from ortolan.http2.open_streams import NO_STREAM_YET, OpenStreams
from ortolan.http2.outgoing import Outgoing
from ortolan.http2.stream import Stream

# What a client may cost besides for each message that it gets.
_EARNED_BY_MESSAGE = 2
# New windows are told to every stream, and each of which something waits may send a frame of a byte then.
_STREAMS_PER_EFFORT = 64
_WAITING_PER_EFFORT = 4


class Http2Connection:
    """Never raises for what the peer does: a connection that cannot go on has a ``fault``, and sends a GOAWAY."""

    def __init__(self, limits: Http2Limits, events: Http2Events, now_s: float) -> None:
        self._limits = limits
        self._events = events
        self._guard = FloodGuard(limits.calm_budget, limits.calm_per_s, now_s)
        self._reader = FrameReader(limits, self)
        self._header_reader = HeaderReader(limits)
        self._window = limits.connection_window
        self._received = 0
        self.outgoing = Outgoing()
        self._open = OpenStreams(limits, events, self._guard, self.outgoing)
        self.streams: Mapping[int, Stream] = self._open.by_id
        self.fault: ConnectionFault | None = None
        self.leaving = False
        """Whether we said that we answer no more."""

    @property
    def settled(self) -> bool:
        """Whether the client has begun as it must."""
        return self._reader.settled

    @property
    def within(self) -> bool:
        """Whether something other than data has begun to come and not ended."""
        return self._reader.within

    @property
    def frames(self) -> int:
        """How many frames that are not data have come."""
        return self._reader.frames

    def open(self) -> None:
        """Say what we accept: the server's preface."""
        accepted = {
            frames.MAX_CONCURRENT_STREAMS: self._limits.concurrent_streams,
            frames.INITIAL_WINDOW_SIZE: self._limits.stream_window,
            frames.MAX_FRAME_SIZE: self._limits.frame_bytes,
            frames.MAX_HEADER_LIST_SIZE: self._limits.header_list_bytes,
        }
        self.outgoing.pieces.append(frames.settings(accepted))
        more = self._limits.connection_window - frames.DEFAULT_WINDOW
        if more:
            self.outgoing.pieces.append(frames.window_update(0, more))

    def receive(self, data: bytes, now_s: float) -> None:
        """Take what the transport received, at ``now_s`` on the monotonic clock."""
        self._guard.now_s = now_s
        if self.fault is not None:
            return
        self._open.hearing = True
        try:
            self._reader.receive(data)
        except ConnectionFault as fault:
            self.end(fault)
        finally:
            self._open.hearing = False

    def to_send(self) -> list[bytes | memoryview]:
        """What the transport is to send: ask again until there is nothing."""
        if not self.outgoing.pieces:
            self.resume()
        return self.outgoing.take()

    # What the owner does

    def consumed(self, stream: Stream, size: int) -> None:
        """Of the stream's data ``size`` bytes no longer take room here: the client may send as many more."""
        if not stream.receiving or stream.id not in self.streams:
            return
        stream.received += size
        if stream.received * 2 >= self._limits.stream_window:
            self.outgoing.pieces.append(frames.window_update(stream.id, stream.received))
            stream.receive_window += stream.received
            stream.received = 0

    def send_response(self, stream: Stream, headers: bytes, data: bytes, trailers: bytes) -> bool:
        """Send a whole small response at once, if it can be. Returns whether; if not, nothing was sent."""
        if not stream.sending or not self.outgoing.response(stream, headers, data, trailers):
            return False
        self._open.answered(stream)
        return True

    def send_headers(self, stream: Stream, block: bytes) -> None:
        if stream.sending:
            self.outgoing.headers(stream, block)

    def send_data(self, stream: Stream, data: bytes | memoryview) -> None:
        """Send ``data``, now or when windows allow it; ``stream.unsent_bytes`` tells what waits."""
        if stream.sending:
            self._guard.earn(_EARNED_BY_MESSAGE)
            self.outgoing.data(stream, data)

    def send_end(self, stream: Stream, trailers: bytes) -> None:
        """End the response, behind its data, with a block of fields; b"" for none."""
        if stream.sending and self.outgoing.trailers(stream, trailers):
            self._open.answered(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End the stream at once."""
        self._open.reset(stream, code)

    def ping(self, payload: bytes) -> None:
        self.outgoing.pieces.append(frames.ping(payload))

    def go_away_soon(self) -> None:
        """Tell the client to begin no more requests here; those under way reach us still."""
        self.outgoing.pieces.append(frames.goaway(NO_STREAM_YET, ErrorCode.NO_ERROR))

    def go_away(self) -> None:
        """Answer what has begun, and nothing that begins after this."""
        self.leaving = True
        self._open.answered_up_to = self._open.last_id
        self.outgoing.pieces.append(frames.goaway(self._open.last_id, ErrorCode.NO_ERROR))

    def end(self, fault: ConnectionFault) -> None:
        """End the connection, and tell the client why."""
        if self.fault is None:
            self.fault = fault
            self.outgoing.pieces.append(frames.goaway(self._open.last_id, fault.code, fault.message.encode()))
            self.abandon()

    def abandon(self) -> None:
        """The connection is over: every open stream is cancelled."""
        self._open.abandon()

    def resume(self) -> None:
        """The transport takes data again."""
        self._open.sent(self.outgoing.resume())

    # What the frame reader found

    def headers_came(self, stream_id: int, block: bytes, ended: bool) -> None:
        headers, effort = self._header_reader.read(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if effort:
                self._guard.spend(effort, "header fields")
            self._trailers_came(stream, headers, ended)
        elif stream_id <= self._open.last_id:
            if headers.has_request:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a request on a stream that has been, or was left out")
            # Trailers may cross a reset of ours.
            self._guard.spend(1 + effort, "frames on streams that have ended")
        else:
            self._open.begin(stream_id, headers, effort, ended)

    def data_begins(self, stream_id: int, size: int) -> Stream | None:
        """A DATA frame of ``size`` bytes in all comes; returns the stream that its data are for, if any."""
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        self._received += size
        if self._received * 2 >= self._limits.connection_window:
            self.outgoing.pieces.append(frames.window_update(0, self._received))
            self._window += self._received
            self._received = 0
        stream = self.streams.get(stream_id)
        if stream is None or not stream.receiving:
            self._open.late_data(stream_id, stream, size)
            return None
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._open.break_off(
                stream, StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
            )
            return None
        return stream

    def data_came(self, stream: Stream, data: bytes | memoryview, padding: int, ended: bool) -> None:
        if self.streams.get(stream.id) is not stream:
            return
        stream.taken += len(data)
        if ended:
            stream.receiving = False
            if stream.declared not in (None, stream.taken):
                self._open.break_off(
                    stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "more or less data than content-length says")
                )
                return
        elif not data:
            self._guard.spend(1, "frames without data")
        if padding:
            self.consumed(stream, padding)
        self._events.data_came(stream, data, ended)

    def reset_came(self, stream_id: int) -> None:
        self._open.reset_came(stream_id)

    def settings_came(self, values: list[tuple[int, int]]) -> None:
        self._guard.spend(5 + len(values) + self.outgoing.waiting // _WAITING_PER_EFFORT, "settings")
        for key, value in values:
            if key == frames.INITIAL_WINDOW_SIZE:
                self._guard.spend(len(self.streams) // _STREAMS_PER_EFFORT, "settings")
                self.outgoing.set_initial_window(value, self.streams.values())
            elif key == frames.MAX_FRAME_SIZE:
                self.outgoing.set_max_frame(value)
            elif key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        self.outgoing.pieces.append(frames.settings_ack())
        self.resume()

    def ping_came(self, payload: bytes, ack: bool) -> None:
        self._guard.spend(1, "pings")
        if ack:
            self._events.ponged(payload)
        else:
            self.outgoing.pieces.append(frames.ping(payload, ack=True))
            self._events.pinged()

    def goaway_came(self) -> None:
        self._guard.spend(1, "GOAWAY frames")

    def window_update_came(self, stream_id: int, more: int) -> None:
        self._guard.spend_on_update(self.outgoing.sent_bytes)
        if stream_id == 0:
            if more == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window update of 0")
            self._open.sent(self.outgoing.widen(None, more))
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._open.refuse_idle(stream_id)
        elif more == 0:
            self._open.break_off(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "a window update of 0"))
        elif stream.send_window + more > frames.LARGEST_WINDOW:
            self._open.break_off(stream, StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "the window became too large"))
        else:
            self._open.sent(self.outgoing.widen(stream, more))

    def useless_came(self, what: str) -> None:
        """A frame that has no effect."""
        self._guard.spend(1, what)

    def _trailers_came(self, stream: Stream, headers: HeaderList, ended: bool) -> None:
        if not stream.receiving:
            self._open.break_off(stream, StreamFault(ErrorCode.STREAM_CLOSED, "header fields after the end"))
        elif not ended or headers.malformed or headers.has_request:
            self._open.break_off(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "these are no fields to end a request"))
        else:
            self.data_came(stream, b"", 0, ended=True)
