"""A request's body: within the limit, and without its Content-Encoding."""

import asyncio

from ortolan.frontends.rest.compression import decompressed, too_large
from ortolan.frontends.rest.http_request import Body, HttpRequest

# What is decompressed within a millisecond needs no thread; a bomb of this size takes a few.
_QUICK_BYTES = 4096


async def read_body(request: HttpRequest, limit_bytes: int) -> Body:
    """The whole body, without its Content-Encoding. Raises as ``compression.decompressed`` does.

    InvalidArgument over the limit, before anything is read where the length is declared.
    """
    declared = declared_bytes(request)
    if declared is not None and declared > limit_bytes:
        raise too_large(declared, limit_bytes, "request")
    body = await request.sent_body(limit_bytes)
    encoding = request.header(b"content-encoding")
    if encoding is None:
        return body
    if len(body) < _QUICK_BYTES:
        return decompressed(body, encoding, limit_bytes)
    return await asyncio.to_thread(decompressed, body, encoding, limit_bytes)


def declared_bytes(request: HttpRequest) -> int | None:
    """How long the body is to be; None where that will be seen at its end."""
    declared = request.header(b"content-length")
    return int(declared) if declared is not None and declared.isdecimal() else None
