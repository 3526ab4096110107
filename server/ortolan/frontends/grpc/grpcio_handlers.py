"""The port's methods as grpcio's handlers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ortolan.errors import OrtolanError
from ortolan.frontends import status
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.methods import MethodName, Methods, StreamRpc, UnaryRpc
from ortolan.frontends.grpc.options import COMPRESSION_LEVELS
from ortolan.frontends.tls.identity import identity_in
from ortolan.protocol.serialized import in_one_piece

_log = logging.getLogger(__name__)


class GrpcioHandlers:
    """Makes handlers that all treat their calls in the same way."""

    def __init__(self, methods: Methods, compression: str) -> None:
        self._methods = methods
        self._compression = COMPRESSION_LEVELS[compression]

    def by_service(self) -> list[Any]:
        """grpcio's handler of each service."""
        services: dict[str, dict[str, Any]] = {}
        for rpc in self._methods.all:
            handler = self._unary(rpc) if isinstance(rpc, UnaryRpc) else self._stream(rpc)
            services.setdefault(rpc.name.service, {})[rpc.name.method] = handler
        return [grpc.method_handlers_generic_handler(*service) for service in services.items()]

    def _unary(self, rpc: UnaryRpc) -> Any:
        async def answer(data: bytes, context: Any) -> bytes:
            async with _Report(context):
                call = self._call(rpc.name, context)
                response = await rpc.run(data, call)
                await self._compress(rpc.name, context)
                if call.trailers:
                    context.set_trailing_metadata(tuple(call.trailers))
                return in_one_piece(response)
            raise AssertionError("an error ends the call")

        return grpc.unary_unary_rpc_method_handler(answer)

    def _stream(self, rpc: StreamRpc) -> Any:
        async def answers(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with _Report(context):
                call = self._call(rpc.name, context)
                await self._compress(rpc.name, context)
                async for response in rpc.run(requests, call):
                    yield in_one_piece(response)

        return grpc.stream_stream_rpc_method_handler(answers)

    def _call(self, name: MethodName, context: Any) -> Call:
        metadata = context.invocation_metadata() or ()
        texts = tuple((key, value) for key, value in metadata if isinstance(value, str))
        return self._methods.call(name, context.time_remaining(), texts, lambda: identity_in(context.auth_context()))

    async def _compress(self, name: MethodName, context: Any) -> None:
        """Have the responses to come compressed, where the operator wants that and the client takes it."""
        if self._compression and name.category == "inference":
            context.set_compression(self._compression)
            # grpcio says which compression it is only in initial metadata that are sent by themselves.
            await context.send_initial_metadata(())


class _Report:
    """Ends the call with the status of the error that leaves the block."""

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OrtolanError):
            _log.debug("a call over gRPC was refused: %s", error)
            await self._abort(status.grpc_code(error), sendable(error.message))
        elif isinstance(error, Exception) and (told := status.foreseen(error)) is not None:
            await self._abort(status.grpc_code(told), told.message)
        elif isinstance(error, Exception):
            _log.error("a gRPC call failed in an unforeseen way", exc_info=error)
            await self._abort(grpc.StatusCode.INTERNAL, status.INTERNAL_MESSAGE)

    async def _abort(self, code: grpc.StatusCode, message: str) -> None:
        """End the call with an error; always raises."""
        try:
            await self._context.abort(code, message)
        except grpc.aio.InternalError:
            # The client went at the same moment, as it does when its deadline passes; grpcio would log that as a bug.
            raise asyncio.CancelledError from None
