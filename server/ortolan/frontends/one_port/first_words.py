"""A connection that has not said yet what it speaks: HTTP/2 begins with its preface, HTTP/1 with anything else.

RFC 9113, section 3.4: the preface was chosen so that it is the beginning of no request of HTTP/1.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from ortolan.http2.frames import PREFACE

# A client that has sent its first words just now gets so long for them to arrive while the server stops.
_LAST_WORDS_S = 0.5


class Spoken(enum.Enum):
    HTTP1 = enum.auto()
    HTTP2 = enum.auto()


def spoken(heard: bytes) -> Spoken | None:
    """What a connection speaks that began with ``heard``; None where that cannot be told yet."""
    if heard.startswith(PREFACE):
        return Spoken.HTTP2
    return None if PREFACE.startswith(heard) else Spoken.HTTP1


class Port(Protocol):
    """Where connections come in, and what becomes of them."""

    def undecided(self, connection: "FirstWords") -> None: ...

    def decided(self, connection: "FirstWords") -> None: ...

    def new_http2(self) -> asyncio.Protocol: ...


class FirstWords(asyncio.Protocol):
    """Hands its transport, with all that came, to the protocol that is spoken, and has no part in what follows.

    Uvicorn makes it, and sees it among its connections until then.
    """

    def __init__(
        self,
        port: Port,
        new_http1: Callable[..., asyncio.Protocol],
        opening_s: float,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """``new_http1`` is called as uvicorn calls the class of its connections; ``opening_s`` may pass until then."""
        self._port = port
        self._new_http1 = new_http1
        self._opening_s = opening_s
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._heard = b""
        self._stopping = False
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server_state.connections.add(cast("Any", self))
        self._port.undecided(self)
        self._timer = self._loop.call_later(self._opening_s, self._transport.close)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        match spoken(self._heard):
            case Spoken.HTTP2:
                self._hand_over(self._port.new_http2())
            case Spoken.HTTP1:
                http1 = self._new_http1(
                    config=self._config,
                    server_state=self._server_state,
                    app_state=self._app_state,
                    _loop=self._loop,
                )
                self._hand_over(http1)
                if self._stopping:
                    # Uvicorn has told its connections already.
                    cast("Any", http1).shutdown()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end()

    def shutdown(self) -> None:
        """Uvicorn stops: be decided soon. To be told again is nothing new."""
        if not self._stopping:
            self._stopping = True
            self._close_after(_LAST_WORDS_S)

    def _close_after(self, delay_s: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self._transport.close)

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._heard)
        # Not before, so that at any time it is somebody's connection.
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._server_state.connections.discard(cast("Any", self))
        self._port.decided(self)
