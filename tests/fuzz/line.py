"""A client's line to one of our HTTP/1 connections, without a socket: bytes go in by pieces, what comes out is kept.

The connection, its event loop and its parser are the real ones. Nothing waits for a clock.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

Connect = Callable[[asyncio.AbstractEventLoop], asyncio.Protocol]
# So many turns of the loop without anything new mean that nothing will come.
_CALM_TURNS = 6
_LONG_PIECE_BYTES = 50
_MOST_TURNS = 20_000


class Line(asyncio.Transport):
    """The transport: what the server writes is in ``sent``."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent = bytearray()
        self.ended = self.closing = self.paused = False
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self.moves = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "something was written after the end"
        if not self.closing:
            self.sent += data
        self.moves += 1

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.moves += self.paused
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16_384, 65_536

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def receive(self, piece: bytes) -> None:
        """What a client sends comes to whoever listens now, in as many parts as it takes."""
        while piece:
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                room = memoryview(cast("Any", self.protocol.get_buffer(len(piece)))).cast("B")
                size = min(len(room), len(piece))
                room[:size] = piece[:size]
                self.protocol.buffer_updated(size)
            else:
                size = len(piece)
                cast("asyncio.Protocol", self.protocol).data_received(piece)
            piece = piece[size:]
            self.moves += 1


class Lines:
    """Exchanges, one after the other, on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._faults: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._faults.append(repr(context)))

    def run(self, work: Any) -> Any:
        """What the coroutine ``work`` returns."""
        return self._loop.run_until_complete(work)

    def exchange(self, connect: Connect, pieces: Iterator[bytes]) -> Line:
        """The line once the client has sent ``pieces``, as far as it was listened to, and has gone."""
        line = self.run(self._exchange(connect, pieces))
        assert not self._faults, self._faults.pop()
        return line

    async def _exchange(self, connect: Connect, pieces: Iterator[bytes]) -> Line:
        others = asyncio.all_tasks()
        line = Line()
        line.protocol = connect(self._loop)
        line.protocol.connection_made(line)
        for piece in pieces:
            line.receive(piece)
            # One turn is enough for what begins at once, and many small pieces need not be many long waits.
            await asyncio.sleep(0)
            if line.closing or line.ended or line.paused or len(piece) >= _LONG_PIECE_BYTES:
                await _calm(line)
            if line.closing or line.ended or line.paused:
                break
        line.closing = True
        line.protocol.connection_lost(None)
        await _calm(line)
        left = asyncio.all_tasks() - others
        assert not left, f"these go on although their client has gone: {left}"
        return line


async def _calm(line: Line) -> None:
    """Wait until nothing moves any more."""
    turns, moves = 0, line.moves
    for _ in range(_MOST_TURNS):
        await asyncio.sleep(0)
        turns = turns + 1 if line.moves == moves else 0
        moves = line.moves
        if turns == _CALM_TURNS:
            return
    raise AssertionError("it never rests")


@dataclass(frozen=True)
class Reply:
    """One answer as a client reads it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def replies(sent: bytes, methods: list[bytes]) -> list[Reply]:
    """The answers in ``sent``, which must be whole; ``methods`` are those of the requests, as far as there were any.

    Provisional ones are left out.
    """
    found: list[Reply] = []
    while sent:
        head, mark, sent = sent.partition(b"\r\n\r\n")
        assert mark, "half a head"
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        if status == b"100":
            assert not lines
            continue
        headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        assert len(headers) == len(lines), "a header twice"
        # What ends the connection may say why.
        is_empty = len(found) < len(methods) and methods[len(found)] == b"HEAD" and int(status) < 400
        size = 0 if is_empty else int(headers[b"content-length"])
        assert len(sent) >= size, "half a body"
        found.append(Reply(int(status), headers, sent[:size]))
        sent = sent[size:]
    return found
