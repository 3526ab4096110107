"""The services' coroutines as grpcio's handlers: restrictions before, errors as gRPC statuses after."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from ortolan.errors import OrtolanError
from ortolan.frontends import status
from ortolan.frontends.deadlines import deadline_after
from ortolan.frontends.grpc.call import Call, Method
from ortolan.frontends.grpc.categories import category_of
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.options import COMPRESSION_LEVELS, GrpcOptions

_log = logging.getLogger(__name__)

StreamMethod = Callable[[AsyncIterator[bytes], Call], AsyncIterator[bytes]]
"""A method from many requests to many responses."""
WatchMethod = Callable[[bytes], AsyncIterator[bytes]]
"""A method from one request to many responses."""


class Handlers:
    """Makes handlers that all treat their calls in the same way."""

    def __init__(self, options: GrpcOptions) -> None:
        self._restrictions = options.restrictions
        self._forwarding = options.forwarding
        self._compression = COMPRESSION_LEVELS[options.compression]

    def unary(self, name: str, method: Method) -> Any:
        """The handler of the method called ``name``; requests and responses stay bytes."""
        category = category_of(name)

        async def answer(data: bytes, context: Any) -> bytes:
            async with _Report(context):
                call = self._call(category, context)
                response = await method(data, call)
                await self._compress(category, context)
                if call.trailers:
                    context.set_trailing_metadata(tuple(call.trailers))
                return response
            raise AssertionError("an error ends the call")

        return grpc.unary_unary_rpc_method_handler(answer)

    def stream(self, name: str, method: StreamMethod) -> Any:
        category = category_of(name)

        async def answers(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with _Report(context):
                call = self._call(category, context)
                call.metadata = _metadata(context)
                await self._compress(category, context)
                async for response in method(requests, call):
                    yield response

        return grpc.stream_stream_rpc_method_handler(answers)

    def watch(self, name: str, method: WatchMethod) -> Any:
        category = category_of(name)

        async def answers(data: bytes, context: Any) -> AsyncIterator[bytes]:
            async with _Report(context):
                self._call(category, context)
                async for response in method(data):
                    yield response

        return grpc.unary_stream_rpc_method_handler(answers)

    def _call(self, category: str, context: Any) -> Call:
        """What the method is told of its call. Raises Restricted where the operator keeps the call out."""
        left_s = context.time_remaining()
        call = Call(deadline_after(left_s) if left_s is not None else 0, forwarding=self._forwarding)
        if self._restrictions or self._forwarding:
            call.metadata = _metadata(context)
            self._restrictions.check(category, dict(call.metadata).get)
        return call

    async def _compress(self, category: str, context: Any) -> None:
        """Have the responses to come compressed, where the operator wants that and the client takes it."""
        if self._compression and category == "inference":
            context.set_compression(self._compression)
            # grpcio says which compression it is only in initial metadata that are sent by themselves.
            await context.send_initial_metadata(())


def _metadata(context: Any) -> tuple[tuple[str, str], ...]:
    """The call's metadata that are text."""
    return tuple((key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str))


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
