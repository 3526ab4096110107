"""Reading a request's body off ASGI, within the limit."""

from starlette.types import Receive, Scope

from ortolan.errors import Cancelled, InvalidArgument


def header(scope: Scope, name: bytes) -> str | None:
    """The value of the header ``name`` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises InvalidArgument over the limit, before reading it where its length is declared."""
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(int(declared), limit_bytes)
    first = await _next_chunk(receive)
    if not first[1]:
        return _within(first[0], limit_bytes)
    chunks, size, more = [first[0]], len(first[0]), True
    while more:
        chunk, more = await _next_chunk(receive)
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(size, limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Cancelled("the client went away before its request was complete")
    return message.get("body", b""), message.get("more_body", False)


def _within(body: bytes, limit_bytes: int) -> bytes:
    if len(body) > limit_bytes:
        raise _too_large(len(body), limit_bytes)
    return body


def _too_large(size: int, limit_bytes: int) -> InvalidArgument:
    return InvalidArgument(
        f"request of at least {size} bytes exceeds the maximum allowed input size of {limit_bytes} bytes. "
        "Use --http-max-input-size to increase the limit."
    )
