"""Reading a request's body off ASGI, within the limit."""

import asyncio

from starlette.types import Receive, Scope

from ortolan.errors import Cancelled
from ortolan.frontends.rest.compression import decompressed, too_large

# What is decompressed within a millisecond needs no thread; a bomb of this size takes a few.
_QUICK_BYTES = 4096


def header(scope: Scope, name: bytes) -> str | None:
    """The value of the header ``name`` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body, without its Content-Encoding. Raises as ``compression.decompressed`` does.

    InvalidArgument over the limit, before anything is read where the length is declared.
    """
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared) > limit_bytes:
        raise too_large(int(declared), limit_bytes, "request")
    body = await _sent_body(receive, limit_bytes)
    encoding = header(scope, b"content-encoding")
    if encoding is None:
        return body
    if len(body) < _QUICK_BYTES:
        return decompressed(body, encoding, limit_bytes)
    return await asyncio.to_thread(decompressed, body, encoding, limit_bytes)


async def _sent_body(receive: Receive, limit_bytes: int) -> bytes:
    chunk, more = await _next_chunk(receive)
    chunks, size = [chunk], len(chunk)
    while more and size <= limit_bytes:
        chunk, more = await _next_chunk(receive)
        size += len(chunk)
        chunks.append(chunk)
    if size > limit_bytes:
        raise too_large(size, limit_bytes, "request")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Cancelled("the client went away before its request was complete")
    return message.get("body", b""), message.get("more_body", False)
