"""The gRPC port on our own HTTP/2 transport, and its connections."""

import asyncio

from ortolan.frontends.grpc.http2_connection import GrpcConnection
from ortolan.frontends.grpc.http2_exchange import OtherRequests
from ortolan.frontends.grpc.http2_service import GrpcService
from ortolan.frontends.grpc.methods import Methods
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.last_callers import last_callers
from ortolan.frontends.listening import BACKLOG, listening_socket
from ortolan.frontends.tls.server_tls import TlsPort
from ortolan.http2.limits import Http2Limits

_CLOSING_S = 0.5


class Http2Server:
    """The server of one gRPC port."""

    def __init__(
        self, methods: Methods, address: str, port: int, options: GrpcOptions, tls: TlsPort | None = None
    ) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError when it cannot be had.

        ``tls``: None for connections in the clear.
        """
        self._connections = Http2Connections(methods, options)
        self._socket = listening_socket(address, port, "--grpc-port", options.shared_port)
        self.port: int = self._socket.getsockname()[1]
        self._new = tls.over(self._connections.new) if tls else self._connections.new
        self._server: asyncio.Server

    @property
    def held_bytes(self) -> int:
        """As ``Http2Connections`` has it."""
        return self._connections.held_bytes

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        # Without the backlog the loop sets one of 100 on a socket that listens already.
        self._server = await loop.create_server(self._new, sock=self._socket, backlog=BACKLOG)

    async def stop(self, grace_s: float) -> None:
        """Accept no further calls, and end those that are running after ``grace_s``."""
        await last_callers(self._socket)
        self._server.close()
        await self._connections.stop(grace_s)


class Http2Connections:
    """The connections of one port, whoever accepts them."""

    def __init__(self, methods: Methods, options: GrpcOptions, others: OtherRequests | None = None) -> None:
        """``others``: see ``GrpcService``."""
        self._methods = methods
        self._service = GrpcService(methods, options, Http2Limits(), others)
        self._connections: set[GrpcConnection] = set()
        self._empty = asyncio.Event()
        self._stopping = False

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for clients, apart from the little that each connection may have."""
        return self._service.held.total_bytes

    def new(self) -> GrpcConnection:
        """The protocol of a connection that is accepted."""
        return GrpcConnection(self._service, self._remember, self._forget)

    async def stop(self, grace_s: float) -> None:
        """End all, and what is running there after ``grace_s``. Nobody may accept connections any more."""
        self._stopping = True
        self._methods.end_streams()
        for connection in [*self._connections]:
            connection.leave()
        await self._ended(grace_s)
        for connection in [*self._connections]:
            connection.abort_calls()
        await self._ended(_CLOSING_S)
        for connection in [*self._connections]:
            connection.abort()

    def _remember(self, connection: GrpcConnection) -> None:
        self._connections.add(connection)
        if self._stopping:
            # It was accepted just before the port was closed.
            connection.leave()

    def _forget(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def _ended(self, within_s: float) -> None:
        """Return when all connections are closed, or after ``within_s``."""
        if self._connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), within_s)
            except TimeoutError:
                return
