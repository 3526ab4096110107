"""The gRPC port: grpcio's asyncio server over the services' coroutines, with limits and an error report."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError, StartupError
from ortolan.frontends import status
from ortolan.frontends.deadlines import deadline_after
from ortolan.frontends.grpc.health import HealthService
from ortolan.frontends.grpc.service import Call, InferenceService, Method
from ortolan.frontends.listening import why_not
from ortolan.protocol import protobuf_messages as messages

_log = logging.getLogger(__name__)

# grpcio itself cancels bursts above about a thousand calls, without a reason; our queues refuse with one.
_MOST_PENDING_CALLS = 100_000
_LONGEST_MESSAGE = 4096


class GrpcServer:
    """The server of one gRPC port."""

    def __init__(self, core: InferenceCore, address: str, port: int, max_message_bytes: int, timing: bool) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError when it cannot be had."""
        self._server = grpc.aio.server(options=_options(max_message_bytes))
        self._health = HealthService(core)
        self._server.add_generic_rpc_handlers((_inference_handler(core, timing), _health_handler(self._health)))
        services = (messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server, pool=messages.POOL)
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


def _inference_handler(core: InferenceCore, timing: bool) -> Any:
    methods = InferenceService(core, timing).methods()
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

    async def answer(data: bytes, context: Any) -> bytes:
        left_s = context.time_remaining()
        call = Call(deadline_after(left_s) if left_s is not None else 0)
        try:
            response = await method(data, call)
            if call.trailers:
                context.set_trailing_metadata(tuple(call.trailers))
            return response
        except OrtolanError as error:
            await _abort(context, status.grpc_code(error), error.message[:_LONGEST_MESSAGE])
        except Exception:
            _log.exception("a gRPC call failed in an unforeseen way")
            await _abort(context, grpc.StatusCode.INTERNAL, status.INTERNAL_MESSAGE)
        raise AssertionError("abort always raises")

    return answer


def _streaming(method: Callable[[bytes], AsyncIterator[bytes]]) -> Callable[[bytes, Any], AsyncIterator[bytes]]:
    async def call(data: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            async for response in method(data):
                yield response
        except OrtolanError as error:
            await _abort(context, status.grpc_code(error), error.message[:_LONGEST_MESSAGE])

    return call


async def _abort(context: Any, code: grpc.StatusCode, message: str) -> None:
    """End the call with an error; always raises."""
    try:
        await context.abort(code, message)
    except grpc.aio.InternalError:
        # The client has gone at the same moment, as it does when its deadline passes; grpcio would log that as a bug.
        raise asyncio.CancelledError from None
