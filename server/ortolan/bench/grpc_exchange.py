"""The client's side of gRPC over HTTP/2, as far as unary calls need it: prepared requests → answers; no socket.

Response headers are not decoded: a call has succeeded if a message came before its end, because a gRPC call that fails
has none. Which status a server gives is found out by a real client before anything is measured.
"""

from collections import deque
from typing import Any

from ortolan.bench.http_exchange import Answer
from ortolan.bench.load import PreparedRequest
from ortolan.http2 import frames

_PREFIX_BYTES = 5
_REFILL_BYTES = 1 << 28


class _Call:
    __slots__ = ("data", "tag", "window")

    def __init__(self, tag: Any, window: int) -> None:
        self.tag, self.window = tag, window
        self.data = b""


class GrpcExchange:
    """One connection with any number of calls under way."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}
        self._next_stream = 1
        self._held = b""
        self._waiting: deque[tuple[int, memoryview]] = deque()
        self._window = frames.DEFAULT_WINDOW
        self._first_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.SMALLEST_MAX_FRAME
        self._eaten = 0
        self.over = False
        """Whether the server takes no further calls here, so that another connection is to be opened."""
        wishes = {frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: frames.LARGEST_WINDOW}
        opening = frames.window_update(0, frames.LARGEST_WINDOW - frames.DEFAULT_WINDOW)
        self._out = [frames.PREFACE, frames.settings(wishes), opening]

    def ask(self, request: PreparedRequest, tag: Any) -> None:
        """Send ``request`` as another call."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        call = self._calls[stream] = _Call(tag, self._first_window)
        size = len(request.body)
        self._out.append(frames.header_frames(stream, request.head, False, self._max_frame))
        if size > min(self._window, call.window, self._max_frame) or self._waiting:
            self._waiting.append((stream, memoryview(request.body)))
            self._send_waiting()
            return
        self._window -= size
        self._out += (frames.head(size, frames.DATA, frames.END_STREAM, stream), request.body)

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes) -> list[Answer]:
        """The answers that ``data`` complete. Raises ValueError for what is no HTTP/2."""
        buffer = self._held + data if self._held else data
        answers: list[Answer] = []
        at = 0
        while len(buffer) - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = frames.HEAD.unpack_from(buffer, at)
            size = high << 8 | low
            if size > 1 << 20:
                raise ValueError("the server does not answer in HTTP/2")
            begin = at + frames.HEAD_BYTES
            if begin + size > len(buffer):
                break
            at = begin + size
            if kind == frames.DATA:
                self._take_data(stream, flags, buffer[begin:at])
            elif kind not in (frames.HEADERS, frames.CONTINUATION):
                self._take_control(kind, flags, stream, buffer[begin:at], answers)
            if flags & frames.END_STREAM and kind in (frames.DATA, frames.HEADERS):
                answers += self._ended(stream)
        self._held = buffer[at:]
        return answers

    def lost(self) -> list[Any]:
        """The tags of the calls under way, once the connection has ended."""
        return [call.tag for call in self._calls.values()]

    def _take_data(self, stream: int, flags: int, data: bytes) -> None:
        self._eaten += len(data)
        if self._eaten > _REFILL_BYTES:
            self._out.append(frames.window_update(0, self._eaten))
            self._eaten = 0
        if flags & frames.PADDED:
            data = data[1 : len(data) - data[0]]
        if stream in self._calls:
            call = self._calls[stream]
            call.data = call.data + data if call.data else data

    def _ended(self, stream: int) -> list[Answer]:
        call = self._calls.pop(stream, None)
        if call is None:
            return []
        whole = len(call.data) >= _PREFIX_BYTES and not call.data[0]
        return [Answer(call.tag, "" if whole else "gRPC error", call.data[_PREFIX_BYTES:])]

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytes, answers: list[Answer]) -> None:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            for setting, value in frames.SETTING.iter_unpack(payload):
                self._take_setting(setting, value)
            self._out.append(frames.settings_ack())
            self._send_waiting()
        elif kind == frames.WINDOW_UPDATE:
            (more,) = frames.WORD.unpack(payload)
            if stream == 0:
                self._window += more
            elif stream in self._calls:
                self._calls[stream].window += more
            self._send_waiting()
        elif kind == frames.PING and not flags & frames.ACK:
            self._out.append(frames.ping(payload, ack=True))
        elif kind == frames.RST_STREAM and (call := self._calls.pop(stream, None)):
            answers.append(Answer(call.tag, "reset by the server", b""))
        elif kind == frames.GOAWAY:
            self.over = True

    def _take_setting(self, setting: int, value: int) -> None:
        if setting == frames.INITIAL_WINDOW_SIZE:
            for call in self._calls.values():
                call.window += value - self._first_window
            self._first_window = value
        elif setting == frames.MAX_FRAME_SIZE:
            self._max_frame = value

    def _send_waiting(self) -> None:
        """Of the bodies that wait, as much as the windows allow, in their order."""
        while self._waiting:
            stream, rest = self._waiting.popleft()
            call = self._calls.get(stream)
            if call is None:
                continue
            size = min(len(rest), self._window, call.window, self._max_frame)
            if size <= 0:
                self._waiting.appendleft((stream, rest))
                return
            self._window -= size
            call.window -= size
            end = frames.END_STREAM if size == len(rest) else 0
            self._out += (frames.head(size, frames.DATA, end, stream), bytes(rest[:size]))
            if size < len(rest):
                self._waiting.appendleft((stream, rest[size:]))
