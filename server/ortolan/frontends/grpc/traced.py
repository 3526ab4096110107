"""What a request over gRPC has to do with traces: whose it belongs to, and the code that it was answered with."""

import asyncio
from collections.abc import Iterable

import grpc

from ortolan.core.trace_context import PARENT, context_of
from ortolan.core.tracing import GRPC, FrontendTrace, Tracing
from ortolan.errors import OrtolanError
from ortolan.frontends import status

OK: int = grpc.StatusCode.OK.value[0]
_INTERNAL: int = grpc.StatusCode.INTERNAL.value[0]
_CANCELLED: int = grpc.StatusCode.CANCELLED.value[0]

Metadata = Iterable[tuple[str, str]]


def begun_trace(tracing: Tracing, method: str, metadata: Metadata) -> FrontendTrace:
    """That of a request to ``method`` that is here."""
    return FrontendTrace(GRPC, method, context_of(metadata) if tracing.follows_callers else None)


def may_be_traced(tracing: Tracing, model: str, metadata: Metadata) -> bool:
    """Whether a call with these metadata that is to infer with ``model`` is traced, or may be."""
    if tracing.chooses_next(model):
        return True
    return tracing.follows_callers and any(name == PARENT for name, _ in metadata)


def code_of(error: BaseException) -> int:
    """What the call is ended with by ``error``."""
    if isinstance(error, asyncio.CancelledError):
        return _CANCELLED
    if isinstance(error, OrtolanError):
        return int(status.grpc_code(error).value[0])
    told = status.foreseen(error) if isinstance(error, Exception) else None
    return _INTERNAL if told is None else int(status.grpc_code(told).value[0])
