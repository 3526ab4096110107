"""Error kind → HTTP status and gRPC code: the only place that knows either."""

import grpc

from ortolan.errors import (
    AlreadyExists,
    BodyTooLarge,
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidArgument,
    MessageTooLarge,
    NoRoom,
    NotFound,
    OrtolanError,
    OutOfMemory,
    Restricted,
    Unauthenticated,
    Unavailable,
    Unknown,
    Unsupported,
    UnsupportedEncoding,
)

# Triton's map (http_server.cc, grpc_utils.cc); kinds below these inherit.
_KINDS: dict[type[OrtolanError], tuple[int, grpc.StatusCode]] = {
    InvalidArgument: (400, grpc.StatusCode.INVALID_ARGUMENT),
    MessageTooLarge: (400, grpc.StatusCode.RESOURCE_EXHAUSTED),
    BodyTooLarge: (413, grpc.StatusCode.RESOURCE_EXHAUSTED),
    NotFound: (404, grpc.StatusCode.NOT_FOUND),
    AlreadyExists: (400, grpc.StatusCode.ALREADY_EXISTS),
    # No kind of Triton's: its clients have no way to send a deadline over HTTP.
    DeadlineExceeded: (504, grpc.StatusCode.DEADLINE_EXCEEDED),
    NoRoom: (503, grpc.StatusCode.RESOURCE_EXHAUSTED),
    Unavailable: (503, grpc.StatusCode.UNAVAILABLE),
    Unsupported: (501, grpc.StatusCode.UNIMPLEMENTED),
    # Triton answers 501, which says that the server lacks something; what is wrong here is the request.
    UnsupportedEncoding: (415, grpc.StatusCode.UNIMPLEMENTED),
    Restricted: (403, grpc.StatusCode.UNAVAILABLE),
    Unauthenticated: (401, grpc.StatusCode.UNAUTHENTICATED),
    Forbidden: (403, grpc.StatusCode.PERMISSION_DENIED),
    Cancelled: (400, grpc.StatusCode.CANCELLED),
    Unknown: (400, grpc.StatusCode.UNKNOWN),
    Internal: (500, grpc.StatusCode.INTERNAL),
}

_SAGEMAKER: dict[type[OrtolanError], int] = {AlreadyExists: 409, OutOfMemory: 507}

INTERNAL_MESSAGE = "internal server error; the server's log has the details"


def foreseen(error: Exception) -> OrtolanError | None:
    """What a client is told of an exception that is no fault of ours: there was no memory for its request."""
    if not isinstance(error, MemoryError):
        return None
    return OutOfMemory("the server has no memory left for this request: send it to another, or again later")


def http_status(error: OrtolanError) -> int:
    return _of(error)[0]


def sagemaker_status(error: OrtolanError) -> int:
    """What SageMaker's contract for many models says, where it is not what everybody else is told."""
    return next((code for kind, code in _SAGEMAKER.items() if isinstance(error, kind)), http_status(error))


def grpc_code(error: OrtolanError) -> grpc.StatusCode:
    return _of(error)[1]


def _of(error: OrtolanError) -> tuple[int, grpc.StatusCode]:
    for kind in type(error).__mro__:
        if kind in _KINDS:
            return _KINDS[kind]
    return _KINDS[Internal]
