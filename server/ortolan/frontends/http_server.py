"""The server of one HTTP port."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from ortolan.frontends.last_callers import last_callers
from ortolan.frontends.listening import listening_socket
from ortolan.frontends.rest.bounded_connection import bounded_protocol
from ortolan.frontends.rest.http_bounds import HttpBounds

_KEEP_ALIVE_S = 120
_TELLING_S = 0.1


class HttpServer(uvicorn.Server):
    """Uvicorn on a socket of ours, which leaves the process' signals alone."""

    def __init__(
        self,
        app: Any,
        address: str,
        port: int,
        flag: str,
        grace_s: float,
        http: type[asyncio.Protocol] | None = None,
        shared: bool = False,
    ) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError as ``listening_socket`` does.

        ``http`` is what makes its connections, if not ``BoundedConnection``; ``shared``: other processes may listen
        there as well.
        """
        config = uvicorn.Config(
            app,
            http=http or bounded_protocol(HttpBounds()),
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            # Longer than clients and balancers keep idle connections (60 s is common): who closes first must be the
            # one that sends, or a request meets a connection that is just being closed.
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(grace_s)),
            backlog=2048,
        )
        super().__init__(config)
        self._socket = listening_socket(address, port, flag, shared)
        self.port: int = self._socket.getsockname()[1]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listen(self) -> None:
        await self.serve([self._socket])

    async def stop(self) -> None:
        """Accept no connections but those that have come; ``listen`` returns when all that there are have ended."""
        if self.started:
            await last_callers(self._socket)
        self.should_exit = True
        for server in self.servers if self.started else ():
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does; also connections that come to be only now, for TLS takes a while, are told to end."""
        telling = asyncio.create_task(self._tell_all())
        try:
            await super().shutdown(sockets)
        finally:
            telling.cancel()

    async def _tell_all(self) -> None:
        while True:
            await asyncio.sleep(_TELLING_S)
            for connection in [*self.server_state.connections]:
                connection.shutdown()
