"""What a connection sends: frames in their order, data as far as the peer's windows and the transport allow."""

from collections.abc import Iterable

from ortolan.http2 import frames
from ortolan.http2.faults import ConnectionFault, ErrorCode
from ortolan.http2.stream import Stream

BURST_BYTES = 1 << 20
"""So many data are handed to the transport at once; the others wait until it has taken these."""
_TURN_BYTES = 1 << 16
# Below this, a frame in one piece is cheaper to send than in two.
_JOINED_BYTES = 16_384


class Outgoing:
    """The bytes that wait for the transport, and the data that wait for the peer.

    Small answers go at once as long as windows allow it; those that must wait take turns, so that a large one holds no
    small one up.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.SMALLEST_MAX_FRAME
        self.paused = False
        """Whether the transport has enough for now: data wait then, control frames do not."""
        self.sent_bytes = 0
        self.answers = 0
        """How many frames of responses there were."""
        self.unsent_bytes = 0
        self._burst_bytes = BURST_BYTES
        self._blocked: dict[int, Stream] = {}
        self._stalled: dict[int, Stream] = {}
        """Those whose own window is closed: nothing but that window helps them."""

    @property
    def waits(self) -> bool:
        """Whether data wait for windows or for the transport."""
        return self.paused or bool(self._blocked) or bool(self._stalled)

    @property
    def waiting(self) -> int:
        """Of how many streams data wait."""
        return len(self._blocked) + len(self._stalled)

    def take(self) -> list[bytes | memoryview]:
        """The pieces for the transport, which is expected to send them."""
        pieces = self.pieces
        self.pieces = []
        self._burst_bytes = BURST_BYTES
        return pieces

    def response(self, stream: Stream, headers: bytes, data: bytes, trailers: bytes) -> bool:
        """Send a whole response in one piece. Returns whether it was small enough, and could go at once."""
        size = len(data)
        most = min(self.window, stream.send_window, _JOINED_BYTES)
        if self.paused or size > most or max(len(headers), len(trailers)) > _JOINED_BYTES:
            return False
        self.window -= size
        self.sent_bytes += size
        stream.sent += size
        self.answers += 1
        head, stream_id = frames.head, stream.id
        begin = head(len(headers), frames.HEADERS, frames.END_HEADERS, stream_id)
        end = head(len(trailers), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id)
        self.pieces.append(
            b"".join((begin, headers, head(size, frames.DATA, 0, stream_id), data, end, trailers)),
        )
        return True

    def headers(self, stream: Stream, block: bytes) -> None:
        self.answers += 1
        self.pieces.append(frames.header_frames(stream.id, block, end=False, max_frame=self.max_frame))

    def data(self, stream: Stream, data: bytes | memoryview) -> None:
        """Send ``data`` now, as far as that is possible."""
        size = len(data)
        if not stream.unsent and size <= self.max_frame and size <= self._room(stream):
            self._frame(stream, data, size)
            return
        stream.unsent.append(memoryview(data))
        stream.unsent_bytes += size
        self.unsent_bytes += size
        self._send_turn(stream)

    def trailers(self, stream: Stream, block: bytes) -> bool:
        """End the stream with ``block`` when its data are sent. Returns whether they are."""
        if stream.unsent:
            stream.trailers = block
            return False
        self.answers += 1
        if block:
            self.pieces.append(frames.header_frames(stream.id, block, end=True, max_frame=self.max_frame))
        else:
            # Some clients take no fields without a field.
            self.pieces.append(frames.head(0, frames.DATA, frames.END_STREAM, stream.id))
        return True

    def forget(self, stream: Stream) -> None:
        """Nothing more of ``stream`` is to be sent."""
        self._blocked.pop(stream.id, None)
        self._stalled.pop(stream.id, None)
        self.unsent_bytes -= stream.unsent_bytes
        stream.unsent.clear()
        stream.unsent_bytes = 0
        stream.trailers = None

    def widen(self, stream: Stream | None, more: int) -> list[Stream]:
        """The peer takes ``more`` bytes, of ``stream`` or in all; what that let through is returned.

        Raises ConnectionFault where the connection's window becomes larger than it may; the caller checks the stream's.
        """
        if stream is not None:
            stream.send_window += more
            if stream.send_window > 0 and self._stalled.pop(stream.id, None) is not None:
                self._blocked[stream.id] = stream
            return self._take_turns([stream]) if stream.unsent else []
        self.window += more
        if self.window > frames.LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window became too large")
        return self.resume()

    def set_initial_window(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer changed the windows of all ``streams``. Raises ConnectionFault where they become too large."""
        if size > frames.LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is out of range")
        more = size - self.initial_window
        self.initial_window = size
        for stream in streams:
            stream.send_window += more
            if stream.send_window > frames.LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window became too large")
        self._blocked |= self._stalled
        self._stalled.clear()

    def set_max_frame(self, size: int) -> None:
        """The peer takes frames of ``size``. Raises ConnectionFault for what it may not say."""
        if not frames.SMALLEST_MAX_FRAME <= size <= frames.LARGEST_MAX_FRAME:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
        self.max_frame = size

    def resume(self) -> list[Stream]:
        """Send what waited, in turn. Returns the streams of which nothing waits any more."""
        return self._take_turns([*self._blocked.values()]) if self._blocked and self._goes_on() else []

    def _goes_on(self) -> bool:
        return not self.paused and self.window > 0 and self._burst_bytes > 0

    def _take_turns(self, streams: list[Stream]) -> list[Stream]:
        """Send of each of ``streams`` in turn, as far as that is possible. Returns those of which nothing waits."""
        sent = []
        while streams and self._goes_on():
            again = []
            for stream in streams:
                if self._send_turn(stream):
                    sent.append(stream)
                elif not self._goes_on():
                    break
                elif stream.send_window > 0:
                    again.append(stream)
            streams = again
        return sent

    def _send_turn(self, stream: Stream) -> bool:
        """Send of ``stream`` what one turn allows. Returns whether that was all of it."""
        unsent = stream.unsent
        turn = min(self._room(stream), self._burst_bytes, _TURN_BYTES)
        while unsent:
            first = unsent[0]
            size = max(min(len(first), turn, self.max_frame), 0)
            if not size and len(first):
                break
            self._frame(stream, first[:size], size)
            turn -= size
            stream.unsent_bytes -= size
            self.unsent_bytes -= size
            if size == len(first):
                unsent.popleft()
            else:
                unsent[0] = first[size:]
        # Behind the others, so that they have their turns.
        self._blocked.pop(stream.id, None)
        self._stalled.pop(stream.id, None)
        if unsent:
            waiting = self._blocked if stream.send_window > 0 else self._stalled
            waiting[stream.id] = stream
        return not unsent

    def _frame(self, stream: Stream, data: bytes | memoryview, size: int) -> None:
        self.window -= size
        self.sent_bytes += size
        self.answers += 1
        self._burst_bytes -= size
        stream.send_window -= size
        stream.sent += size
        head = frames.head(size, frames.DATA, 0, stream.id)
        if size <= _JOINED_BYTES and type(data) is bytes:
            self.pieces.append(head + data)
        else:
            self.pieces += (head, data)

    def _room(self, stream: Stream) -> int:
        return 0 if self.paused else min(self.window, stream.send_window)
