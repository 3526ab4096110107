"""What the header fields of a gRPC call say (PROTOCOL-HTTP2, "Requests")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ortolan.frontends.grpc.methods import Rpc
from ortolan.frontends.grpc.noted import agent_in, id_in
from ortolan.http2.header_blocks import HeaderList

# Neither grpc-web, which looks much the same, nor messages in JSON: what is answered is protobuf.
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+proto)?[ \t]*(?:;|$)")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A call: its method (None for one that is not there), how long it is wanted (seconds; None: for ever), ..."""

    rpc: Rpc | None
    timeout_s: float | None = None
    encoding: str = _IDENTITY
    accepts: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    path: bytes = b""
    request_id: str = ""
    """What its client calls it, where that is an id."""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is no gRPC call, as a status of HTTP, or of gRPC where ``http_status`` is 200."""

    http_status: int
    message: str
    too_large: bool = False
    path: bytes = b""
    request_id: str = ""
    user_agent: str = ""


def read_head(headers: HeaderList, methods: Mapping[str, Rpc]) -> RequestHead | Refusal:
    """The call that ``headers`` begin. ``methods`` has each by its path."""
    if headers.too_large:
        return Refusal(200, "received metadata size exceeds the limit", too_large=True)
    fields = dict(headers.fields)
    metadata = tuple([_text(field) for field in headers.fields if not _of_the_protocol(field[0])])
    path = fields.get(b":path", b"")
    named = path, id_in(metadata), agent_in(metadata)
    if fields.get(b":method") != b"POST":
        return Refusal(405, "gRPC calls are POST requests", False, *named)
    if not _CONTENT_TYPE.match(fields.get(b"content-type", b"")):
        message = "the content-type of a gRPC call is application/grpc, or application/grpc+proto"
        return Refusal(415, message, False, *named)
    timeout = fields.get(b"grpc-timeout")
    found = _TIMEOUT.fullmatch(timeout) if timeout is not None else None
    if timeout is not None and found is None:
        return Refusal(200, "grpc-timeout must be at most 8 digits and one of H, M, S, m, u, n", False, *named)
    return RequestHead(
        rpc=methods.get(path.decode("latin-1")),
        timeout_s=int(found[1]) * _UNIT_S[found[2]] if found else None,
        encoding=fields.get(b"grpc-encoding", b"identity").decode("latin-1"),
        accepts=tuple(name.strip() for name in fields.get(b"grpc-accept-encoding", b"").decode("latin-1").split(",")),
        metadata=metadata,
        path=named[0],
        request_id=named[1],
        user_agent=named[2],
    )


def is_call(headers: HeaderList, methods: Mapping[str, Rpc]) -> bool:
    """Whether ``headers`` are meant for gRPC, rightly or not: by the type of the content, or by a method's path."""
    fields = dict(headers.fields)
    path = fields.get(b":path", b"").decode("latin-1")
    return fields.get(b"content-type", b"").startswith(b"application/grpc") or path in methods


def _text(field: tuple[bytes, bytes]) -> tuple[str, str]:
    return field[0].decode("latin-1"), field[1].decode("latin-1")


def _of_the_protocol(name: bytes) -> bool:
    """Fields that are no text metadata of the call: those of HTTP/2 and gRPC, and metadata in bytes."""
    return name.startswith((b":", b"grpc-")) or name in (b"te", b"content-type") or name.endswith(b"-bin")
