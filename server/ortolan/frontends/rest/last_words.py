"""The end of an HTTP/1 connection whose client is still sending: a last answer, and nobody listens any more."""

import asyncio
from typing import Protocol

_MOST_LINGERS = 300


class Connection(Protocol):
    """Whose last words they are."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None: ...


class LastWords(asyncio.Protocol):
    """The transport's protocol until it is closed.

    A socket that is closed with something unread resets the connection, which can cost the client what was sent to it:
    what comes is thrown away for a while.
    """

    def __init__(self, connection: Connection, words: bytes, linger_s: float) -> None:
        self._connection = connection
        self._transport = transport = connection.transport
        self._linger_s = linger_s
        self._lingers = 0
        transport.set_protocol(self)
        if words:
            transport.write(words)
        if transport.can_write_eof():
            transport.write_eof()
        self._timer = connection.loop.call_later(linger_s, self._look_at_the_clock)

    def data_received(self, data: bytes) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connection.connection_lost(exc)

    def _look_at_the_clock(self) -> None:
        self._lingers += 1
        if self._lingers < _MOST_LINGERS and self._transport.get_write_buffer_size():
            self._timer = self._connection.loop.call_later(self._linger_s, self._look_at_the_clock)
        else:
            self._transport.abort()
