"""The gRPC port on grpcio's asyncio server."""

import grpc

from ortolan.errors import StartupError
from ortolan.frontends.grpc.grpcio_handlers import GrpcioHandlers
from ortolan.frontends.grpc.grpcio_tls import server_credentials
from ortolan.frontends.grpc.methods import Methods
from ortolan.frontends.grpc.options import GrpcOptions, channel_options
from ortolan.frontends.listening import why_not
from ortolan.frontends.tls.server_tls import ServerTls


class GrpcioServer:
    """The server of one gRPC port."""

    def __init__(
        self, methods: Methods, address: str, port: int, options: GrpcOptions, tls: ServerTls | None = None
    ) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError when it cannot be had."""
        self._methods = methods
        self._server = grpc.aio.server(options=channel_options(options))
        self._server.add_generic_rpc_handlers(GrpcioHandlers(methods, options.compression).by_service())
        host = f"[{address}]" if ":" in address else address
        try:
            if tls is None:
                self.port: int = self._server.add_insecure_port(f"{host}:{port}")
            else:
                self.port = self._server.add_secure_port(f"{host}:{port}", server_credentials(tls))
        except RuntimeError:
            # grpcio does not say why.
            raise StartupError(why_not(address, port, "--grpc-port")) from None

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no further calls, and end those that are running after ``grace_s``."""
        self._methods.end_streams()
        await self._server.stop(grace_s)
