"""The gRPC port: grpcio's asyncio server over the services' coroutines, with limits and an error report."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError, StartupError
from ortolan.frontends import status
from ortolan.frontends.grpc.health import HealthService
from ortolan.frontends.grpc.service import InferenceService, Method
from ortolan.protocol import protobuf_messages as messages

_log = logging.getLogger(__name__)

# grpcio itself cancels bursts above about a thousand calls, without a reason; our queues refuse with one.
_MOST_PENDING_CALLS = 100_000
_LONGEST_MESSAGE = 4096


class GrpcServer:
    """The server of one gRPC port."""

    def __init__(self, core: InferenceCore, address: str, port: int, max_message_bytes: int) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError when it is taken."""
        self._server = grpc.aio.server(options=_options(max_message_bytes))
        self._health = HealthService(core)
        self._server.add_generic_rpc_handlers((_inference_handler(core), _health_handler(self._health)))
        services = (messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server, pool=messages.POOL)
        host = f"[{address}]" if ":" in address else address
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            raise StartupError(
                f"cannot listen for gRPC on {host}:{port}: the port is in use or not allowed. "
                "Choose another with --grpc-port, or 0 for a free one."
            ) from None

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no further calls, and end those that are running after ``grace_s``."""
        self._health.end_watches()
        await self._server.stop(grace_s)


def _options(max_message_bytes: int) -> list[tuple[str, Any]]:
    return [
        # Without this a second server would share the port in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.server.max_pending_requests", _MOST_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING_CALLS),
    ]


def _inference_handler(core: InferenceCore) -> Any:
    methods = InferenceService(core).methods()
    handlers = {name: grpc.unary_unary_rpc_method_handler(_unary(method)) for name, method in methods.items()}
    return grpc.method_handlers_generic_handler(messages.INFERENCE_SERVICE, handlers)


def _health_handler(health: HealthService) -> Any:
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(_unary(health.check)),
        "Watch": grpc.unary_stream_rpc_method_handler(_streaming(health.watch)),
    }
    return grpc.method_handlers_generic_handler(messages.HEALTH_SERVICE, handlers)


def _unary(method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """``method`` with its errors as gRPC statuses; requests and responses stay bytes."""

    async def call(data: bytes, context: Any) -> bytes:
        try:
            return await method(data)
        except OrtolanError as error:
            await context.abort(status.grpc_code(error), error.message[:_LONGEST_MESSAGE])
        except Exception:
            _log.exception("a gRPC call failed in an unforeseen way")
            await context.abort(grpc.StatusCode.INTERNAL, status.INTERNAL_MESSAGE)
        raise AssertionError("abort always raises")

    return call


def _streaming(method: Callable[[bytes], AsyncIterator[bytes]]) -> Callable[[bytes, Any], AsyncIterator[bytes]]:
    async def call(data: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            async for response in method(data):
                yield response
        except OrtolanError as error:
            await context.abort(status.grpc_code(error), error.message[:_LONGEST_MESSAGE])

    return call
