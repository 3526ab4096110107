"""What the fields of a REST request over HTTP/2 say, in ASGI's words (its HTTP connection scope, version 2.3)."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from ortolan.errors import InvalidArgument
from ortolan.http2.header_blocks import Field, HeaderList

_METHOD = re.compile(rb"[A-Z][A-Z-]{0,31}")
_TARGET = re.compile(rb"/[!-~]*")


class RestHead(NamedTuple):
    """The parts of a scope that all requests with these fields have in common; names of headers in lower case."""

    scope: dict[str, Any]
    headers: Sequence[Field]
    expects_continue: bool
    """Whether the client sends no data before it is told to."""


def read_head(fields: HeaderList) -> RestHead:
    """Raises InvalidArgument for fields that are too large, and for a method or path that is none."""
    if fields.too_large:
        raise InvalidArgument("the request's header fields are too large; send fewer or shorter ones")
    pseudo = {name: value for name, value in fields.fields if name.startswith(b":")}
    method, target = pseudo[b":method"], pseudo[b":path"]
    if not _METHOD.fullmatch(method):
        raise InvalidArgument("the request's :method expects capital letters")
    if not _TARGET.fullmatch(target):
        raise InvalidArgument('the request\'s :path expects "/" and printable ASCII; percent-encode what is not')
    raw_path, _, query = target.partition(b"?")
    authority = pseudo.get(b":authority")
    if authority is not None and any(name == b"host" and value != authority for name, value in fields.fields):
        raise InvalidArgument("the request's Host differs from its :authority; send one of them, or the same in both")
    headers = _headers(fields.fields, authority)
    return RestHead(
        scope={
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": method.decode(),
            "scheme": pseudo[b":scheme"].decode("latin-1"),
            "path": unquote(raw_path.decode()),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
        },
        headers=headers,
        expects_continue=any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers),
    )


def _headers(fields: Sequence[Field], authority: bytes | None) -> list[Field]:
    """As HTTP/1 has them: ``host`` is the authority (RFC 9113, section 8.3.1), cookies are one (section 8.2.3)."""
    headers = [(b"host", authority)] if authority is not None else []
    left_out = (b"host", b"cookie") if authority is not None else (b"cookie",)
    headers += [field for field in fields if not field[0].startswith(b":") and field[0] not in left_out]
    cookies = [value for name, value in fields if name == b"cookie"]
    return [*headers, (b"cookie", b"; ".join(cookies))] if cookies else headers
