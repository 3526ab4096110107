"""The gRPC port: grpcio's asyncio server with the services' methods."""

from typing import Any

import grpc

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import StartupError
from ortolan.frontends.grpc import reflected
from ortolan.frontends.grpc.handlers import Handlers
from ortolan.frontends.grpc.health import HealthService
from ortolan.frontends.grpc.inference_stream import InferenceStreams
from ortolan.frontends.grpc.options import GrpcOptions, channel_options
from ortolan.frontends.grpc.service import InferenceService
from ortolan.frontends.grpc.settings import SettingsService
from ortolan.frontends.grpc.shared_memory import SharedMemoryService
from ortolan.frontends.listening import why_not
from ortolan.protocol import protobuf_messages as messages


class GrpcServer:
    """The server of one gRPC port."""

    def __init__(self, core: InferenceCore, address: str, port: int, options: GrpcOptions) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError when it cannot be had."""
        self._server = grpc.aio.server(options=channel_options(options))
        self._health = HealthService(core)
        self._streams = InferenceStreams(core)
        handlers = Handlers(options)
        self._server.add_generic_rpc_handlers(
            (self._inference_handler(core, handlers, options.timing), self._health_handler(handlers))
        )
        reflected.enable(self._server)
        host = f"[{address}]" if ":" in address else address
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            # grpcio does not say why.
            raise StartupError(why_not(address, port, "--grpc-port")) from None

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no further calls, and end those that are running after ``grace_s``."""
        self._health.end_watches()
        self._streams.end()
        await self._server.stop(grace_s)

    def _inference_handler(self, core: InferenceCore, handlers: Handlers, timing: bool) -> Any:
        methods = InferenceService(core, timing).methods() | SettingsService(core).methods()
        methods |= SharedMemoryService(core).methods()
        served = {name: handlers.unary(name, method) for name, method in methods.items()}
        served["ModelStreamInfer"] = handlers.stream("ModelStreamInfer", self._streams.answers)
        return grpc.method_handlers_generic_handler(messages.INFERENCE_SERVICE, served)

    def _health_handler(self, handlers: Handlers) -> Any:
        served = {
            "Check": handlers.unary("Check", self._health.check),
            "Watch": handlers.watch("Watch", self._health.watch),
        }
        return grpc.method_handlers_generic_handler(messages.HEALTH_SERVICE, served)
