"""The port's methods as grpcio's handlers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ortolan.core.error_responses import GRPC
from ortolan.core.request_note import GONE_CODE, RequestNote
from ortolan.errors import Internal, OrtolanError
from ortolan.frontends import status
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.error_text import sendable
from ortolan.frontends.grpc.methods import MethodName, Methods, StreamRpc, UnaryRpc
from ortolan.frontends.grpc.noted import agent_in, id_in, note_of, trailers_of
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
            async with _Report(context, self._methods, rpc.name) as report:
                report.came(len(data))
                call = report.begun()
                response = await rpc.run(data, call)
                await self._compress(rpc.name, context)
                if call.trailers:
                    context.set_trailing_metadata(tuple(call.trailers))
                whole = in_one_piece(response)
                report.left(len(whole))
                return whole
            raise AssertionError("an error ends the call")

        return grpc.unary_unary_rpc_method_handler(answer)

    def _stream(self, rpc: StreamRpc) -> Any:
        async def answers(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with _Report(context, self._methods, rpc.name) as report:
                call = report.begun()
                await self._compress(rpc.name, context)
                if call.trailers:
                    context.set_trailing_metadata(tuple(call.trailers))
                async for response in rpc.run(report.counted(requests), call):
                    whole = in_one_piece(response)
                    report.left(len(whole))
                    yield whole

        return grpc.stream_stream_rpc_method_handler(answers)

    async def _compress(self, name: MethodName, context: Any) -> None:
        """Have the responses to come compressed, where the operator wants that and the client takes it."""
        if self._compression and name.category == "inference":
            context.set_compression(self._compression)
            # grpcio says which compression it is only in initial metadata that are sent by themselves.
            await context.send_initial_metadata(())


class _Report:
    """Ends the call with the status of the error that leaves the block, and notes how it ended."""

    __slots__ = ("_call", "_context", "_metadata", "_methods", "_name", "_note")

    def __init__(self, context: Any, methods: Methods, name: MethodName) -> None:
        self._context = context
        self._methods = methods
        self._name = name
        metadata = context.invocation_metadata() or ()
        self._metadata = tuple((key, value) for key, value in metadata if isinstance(value, str))
        self._note = self._new_note()
        self._call: Call | None = None

    def begun(self) -> Call:
        """What its method is told. Raises as ``Methods.call`` where it is kept out."""
        context = self._context
        left_s = context.time_remaining()
        self._call = self._methods.call(
            self._name, left_s, self._metadata, lambda: identity_in(context.auth_context()), self._note
        )
        return self._call

    def came(self, size: int) -> None:
        if self._note is not None:
            self._note.bytes_in = max(0, self._note.bytes_in) + size

    def left(self, size: int) -> None:
        if self._note is not None:
            self._note.bytes_out += size

    def counted(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return requests if self._note is None else self._counted(requests)

    async def _counted(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for request in requests:
            self.came(len(request))
            yield request

    async def __aenter__(self) -> "_Report":
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OrtolanError):
            _log.debug("a call over gRPC was refused: %s", error)
            await self._abort(status.grpc_code(error), sendable(error.message), type(error).__name__)
        elif isinstance(error, Exception) and (told := status.foreseen(error)) is not None:
            await self._abort(status.grpc_code(told), told.message, type(told).__name__)
        elif isinstance(error, Exception):
            extra = {"request_id": self._note.request_id} if self._note is not None else None
            _log.error("a gRPC call failed in an unforeseen way", exc_info=error, extra=extra)
            await self._abort(grpc.StatusCode.INTERNAL, status.INTERNAL_MESSAGE, Internal.__name__)
        elif self._note is not None:
            self._note.answered("OK" if error is None else GONE_CODE)

    async def _abort(self, code: grpc.StatusCode, message: str, kind: str) -> None:
        """End the call with an error; always raises."""
        if not self._name.is_probe:
            self._methods.errors.told(GRPC, code.name)
        if self._note is not None:
            self._note.error = kind
            self._note.answered(code.name)
        trailers = self._call.trailers if self._call is not None else trailers_of(self._note)
        try:
            await self._context.abort(code, message, tuple(trailers))
        except grpc.aio.InternalError:
            # The client went at the same moment, as it does when its deadline passes; grpcio would log that as a bug.
            raise asyncio.CancelledError from None

    def _new_note(self) -> RequestNote | None:
        request_id = id_in(self._metadata)
        log = self._methods.log
        if log is None and not request_id:
            return None
        return note_of(log, request_id, self._context.peer(), self._name.path.encode(), agent_in(self._metadata))
