"""A request's body: within the limit, and without its Content-Encoding."""

import asyncio

from ortolan.frontends.rest.body_limits import BodyLimit, declared_bytes
from ortolan.frontends.rest.compression import decompressed
from ortolan.frontends.rest.http_request import Body, HttpRequest

# What is decompressed within a millisecond needs no thread; a bomb of this size takes a few.
_QUICK_BYTES = 4096


async def read_body(request: HttpRequest, limit: BodyLimit) -> Body:
    """The whole body, without its Content-Encoding. Raises as ``compression.decompressed`` does.

    ``limit.refusal`` over the limit, before anything is read where the length is declared.
    """
    declared = declared_bytes(request)
    if declared is not None and declared > limit.most_bytes:
        raise limit.refusal(declared)
    body = await request.sent_body(limit)
    encoding = request.header(b"content-encoding")
    if encoding is None:
        return body
    if len(body) < _QUICK_BYTES:
        return decompressed(body, encoding, limit)
    return await asyncio.to_thread(decompressed, body, encoding, limit)
