"""Bytes → frames, checked for their form (RFC 9113, sections 4 and 6).

Data are handed on piece by piece, as they come; of anything else a whole frame is kept until it is complete, and all of
those have a small limit. So a connection never holds more than that, whatever sizes its peer announces.
"""

from collections.abc import Callable
from typing import Protocol

from ortolan.http2 import frames
from ortolan.http2.faults import ConnectionFault, ErrorCode
from ortolan.http2.limits import Http2Limits
from ortolan.http2.stream import Stream

_MOST_SETTINGS = 64
_VIEW_FROM = 4096


class FrameEvents(Protocol):
    """Whom the reader tells. Each of these may raise ConnectionFault."""

    def headers_came(self, stream_id: int, block: bytes, ended: bool) -> None: ...
    def data_begins(self, stream_id: int, size: int) -> Stream | None: ...
    def data_came(self, stream: Stream, data: bytes | memoryview, padding: int, ended: bool) -> None: ...
    def reset_came(self, stream_id: int) -> None: ...
    def settings_came(self, values: list[tuple[int, int]]) -> None: ...
    def ping_came(self, payload: bytes, ack: bool) -> None: ...
    def goaway_came(self) -> None: ...
    def window_update_came(self, stream_id: int, more: int) -> None: ...
    def useless_came(self, what: str) -> None: ...


class FrameReader:
    def __init__(self, limits: Http2Limits, events: FrameEvents) -> None:
        self._limits = limits
        self._events = events
        self._rest = b""
        self._begun = False
        self._settled = False
        self._data = _DataFrame()
        self._skipped = 0
        self.frames = 0
        """How many frames have begun and, but for data, ended."""
        self._block: list[bytes] | None = None
        self._block_bytes = 0
        self._block_stream = 0
        self._block_ends_stream = False
        self._kinds: dict[int, Callable[[int, int, bytes], None]] = {
            frames.HEADERS: self._headers,
            frames.PRIORITY: self._priority,
            frames.RST_STREAM: self._rst_stream,
            frames.SETTINGS: self._settings,
            frames.PING: self._ping,
            frames.WINDOW_UPDATE: self._window_update,
            frames.CONTINUATION: self._continuation,
        }

    @property
    def settled(self) -> bool:
        """Whether the client has said its preface and its first settings."""
        return self._settled

    @property
    def within(self) -> bool:
        """Whether a frame but DATA, or a block of header fields, has begun and not ended."""
        return bool(self._rest) or self._block is not None

    def receive(self, data: bytes) -> None:
        """Raises ConnectionFault for what is not HTTP/2."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = 0 if self._begun else self._preface(data)
        end = len(data)
        while at < end:
            if self._data.left:
                at = self._data_piece(data, at)
            elif self._skipped:
                step = min(self._skipped, end - at)
                self._skipped -= step
                at += step
            else:
                next_at = self._frame(data, at, end)
                if next_at == at:
                    break
                at = next_at
        if at < end:
            self._rest = data[at:]

    def _preface(self, data: bytes) -> int:
        """Where the first frame begins."""
        known = data[: len(frames.PREFACE)]
        if not frames.PREFACE.startswith(known):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2, with prior knowledge")
        if len(known) < len(frames.PREFACE):
            self._rest = data
            return len(data)
        self._begun = True
        return len(known)

    def _frame(self, data: bytes, at: int, end: int) -> int:
        """Take the frame at ``at``. Returns where the next one begins, or ``at`` where this one is not complete."""
        if end - at < frames.HEAD_BYTES:
            return at
        high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data, at)
        length: int = high << 8 | low
        stream_id &= 0x7FFFFFFF
        if not self._settled or self._block is not None or kind != frames.HEADERS:
            if kind == frames.DATA and self._settled and self._block is None:
                return self._begin_data(data, at, end, length, flags, stream_id)
            self._check(kind, length, flags, stream_id)
        elif not stream_id & 1 or length > self._limits.header_block_bytes:
            self._check(kind, length, flags, stream_id)
        take = self._kinds.get(kind)
        begin = at + frames.HEAD_BYTES
        if take is None:
            self._skipped = length
            self._skip(kind)
            return begin
        if end - begin < length:
            return at
        self.frames += 1
        take(stream_id, flags, data[begin : begin + length])
        return begin + length

    def _check(self, kind: int, length: int, flags: int, stream_id: int) -> None:
        """Raises ConnectionFault for what may not come here, before any of it is kept."""
        if not self._settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame within a block of header fields")
        if kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        if kind in _ON_STREAMS and not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame that needs a stream came without one")
        if kind in _ON_CONNECTION and stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of the whole connection came on a stream")
        self._check_size(kind, length, flags)

    def _check_size(self, kind: int, length: int, flags: int) -> None:
        if length > self._limits.frame_bytes:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "the frame is larger than SETTINGS_MAX_FRAME_SIZE")
        if kind in _SIZES and length != _SIZES[kind]:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame has the wrong size")
        if kind == frames.SETTINGS and (length % frames.SETTING.size or (flags & frames.ACK and length)):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has the wrong size")
        if kind == frames.SETTINGS and length > _MOST_SETTINGS * frames.SETTING.size:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        if kind in (frames.HEADERS, frames.CONTINUATION) and length > self._limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header fields take too much room")

    def _skip(self, kind: int) -> None:
        """A frame of which nothing is read but its type."""
        if kind == frames.GOAWAY:
            self._events.goaway_came()
        else:
            self._events.useless_came("frames of unknown types")

    # Data

    def _begin_data(self, data: bytes, at: int, end: int, length: int, flags: int, stream_id: int) -> int:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data without a stream")
        if length > self._limits.frame_bytes:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "the frame is larger than SETTINGS_MAX_FRAME_SIZE")
        begin = at + frames.HEAD_BYTES
        padding = 0
        if flags & frames.PADDED:
            if begin == end and length:
                return at
            if not length or data[begin] >= length:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as its frame")
            padding = data[begin] + 1
            begin += 1
        stream = self._events.data_begins(stream_id, length)
        frame = self._data
        frame.stream = stream
        frame.left = length - padding
        frame.padding = padding
        frame.ends = bool(flags & frames.END_STREAM)
        if not frame.left:
            self._end_data(b"")
        return begin

    def _data_piece(self, data: bytes, at: int) -> int:
        frame = self._data
        step = min(frame.left, len(data) - at)
        piece = data[at : at + step] if step < _VIEW_FROM else memoryview(data)[at : at + step]
        frame.left -= step
        if not frame.left:
            self._end_data(piece)
        elif frame.stream is not None:
            self._events.data_came(frame.stream, piece, 0, ended=False)
        return at + step

    def _end_data(self, piece: bytes | memoryview) -> None:
        """``piece`` is the last of its frame."""
        frame = self._data
        self._skipped = max(frame.padding - 1, 0)
        stream = frame.stream
        frame.stream = None
        if stream is not None:
            self._events.data_came(stream, piece, frame.padding, frame.ends)

    # Header fields

    def _headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a request on a stream that is not the client's")
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = _without_extras(stream_id, flags, payload)
        ended = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._events.headers_came(stream_id, payload, ended)
            return
        self._block = [payload]
        self._block_bytes = len(payload)
        self._block_stream = stream_id
        self._block_ends_stream = ended

    def _continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a block of header fields")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if len(self._block) > self._limits.continuations or self._block_bytes > self._limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header fields take too much room")
        if flags & frames.END_HEADERS:
            block = b"".join(self._block)
            self._block = None
            self._events.headers_came(stream_id, block, self._block_ends_stream)

    # The others

    def _priority(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        if frames.WORD.unpack_from(payload)[0] & 0x7FFFFFFF == stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        self._events.useless_came("priorities")

    def _rst_stream(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        self._events.reset_came(stream_id)

    def _settings(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        self._settled = True
        if flags & frames.ACK:
            self._events.useless_came("acknowledgements")
        else:
            self._events.settings_came([*frames.SETTING.iter_unpack(payload)])

    def _ping(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        self._events.ping_came(payload, bool(flags & frames.ACK))

    def _window_update(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        self._events.window_update_came(stream_id, frames.WORD.unpack(payload)[0] & 0x7FFFFFFF)


_ON_STREAMS = {frames.HEADERS, frames.PRIORITY, frames.RST_STREAM, frames.CONTINUATION, frames.DATA}
_ON_CONNECTION = {frames.SETTINGS, frames.PING, frames.GOAWAY}
_SIZES = {frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}


class _DataFrame:
    """The DATA frame of which some is still to come."""

    __slots__ = ("ends", "left", "padding", "stream")

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.left = 0
        self.padding = 0
        self.ends = False


def _without_extras(stream_id: int, flags: int, payload: bytes) -> bytes:
    """The block in a HEADERS frame that has padding or a priority as well."""
    begin = 0
    padding = 0
    if flags & frames.PADDED:
        if not payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without its padding's length")
        padding = payload[0]
        begin = 1
    if flags & frames.HAS_PRIORITY:
        if len(payload) < begin + 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame without the priority that it announces")
        if frames.WORD.unpack_from(payload, begin)[0] & 0x7FFFFFFF == stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        begin += 5
    if begin + padding > len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as its frame")
    return payload[begin : len(payload) - padding]
