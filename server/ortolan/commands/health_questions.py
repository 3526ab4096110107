"""Asking a server for its health, by HTTP/1.1 and by ``grpc.health.v1``: bytes to send, and what came in answer.

Written by hand, because to import a library for either takes longer than asking.
"""

from ortolan.commands.connection import Connection
from ortolan.http2 import frames

# Bounds what a server that is none of ours can make a probe read.
_LONGEST_HEAD = 1 << 16
_LONGEST_PAGE = 1 << 24

_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
SERVING = _STATUSES[1]

# Of a gRPC message: one byte for compression, four for the length. Of HTTP/2: a call of its own is stream 1.
_PREFIX_BYTES = 5
_STREAM = 1


def http_status(connection: Connection, host: str, path: str) -> int:
    """The status of ``GET path``. Raises OSError for what is no HTTP."""
    connection.send(_request(host, path))
    head = b""
    while b"\r\n" not in head and len(head) < _LONGEST_HEAD and (data := connection.receive()):
        head += data
    return _status(head)


def metrics_say(connection: Connection, host: str, sample: bytes) -> bool:
    """Whether ``sample``, a line, is on the page of metrics. Raises OSError for what is no HTTP."""
    connection.send(_request(host, "/metrics"))
    page = b""
    while len(page) < _LONGEST_PAGE and (data := connection.receive()):
        page += data
    return _status(page) == 200 and sample in page.splitlines()


def grpc_health(connection: Connection, host: str, over_tls: bool) -> str:
    """The status of the whole server, such as SERVING. Raises OSError where no message is answered."""
    connection.send(_call(host, over_tls))
    held = b""
    message = b""
    while data := connection.receive():
        held += data
        while frame := _frame(held):
            kind, flags, stream, payload, size = frame
            held = held[size:]
            if kind == frames.SETTINGS and not flags & frames.ACK:
                connection.send(frames.settings_ack())
            if kind == frames.DATA and stream == _STREAM:
                message += payload
            if _is_whole(message):
                return _health_status(message[_PREFIX_BYTES:])
            if kind in (frames.RST_STREAM, frames.GOAWAY) or (stream == _STREAM and flags & frames.END_STREAM):
                raise OSError("the server has no grpc.health.v1, or refuses it")
    raise OSError("the connection was closed instead of an answer")


def _request(host: str, path: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", "User-Agent: ortolan-health", "Accept: */*", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode()


def _status(head: bytes) -> int:
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise OSError("what answers there does not speak HTTP/1.1")
    return int(words[1])


def _call(host: str, over_tls: bool) -> bytes:
    """The opening of HTTP/2 and one call with an empty message, which asks for the server as a whole."""
    block = (
        b"\x83"  # :method: POST, by the static table of RFC 7541
        + (b"\x87" if over_tls else b"\x86")  # :scheme
        + b"\x04"
        + _text(b"/grpc.health.v1.Health/Check")
        + b"\x01"
        + _text(host.encode()[:126])
        + b"\x0f\x10"
        + _text(b"application/grpc")
        + b"\x00"
        + _text(b"te")
        + _text(b"trailers")
    )
    message = bytes(_PREFIX_BYTES)
    return (
        frames.PREFACE
        + frames.settings({frames.ENABLE_PUSH: 0})
        + frames.header_frames(_STREAM, block, False, frames.SMALLEST_MAX_FRAME)
        + frames.head(len(message), frames.DATA, frames.END_STREAM, _STREAM)
        + message
    )


def _text(data: bytes) -> bytes:
    """A string of up to 126 bytes as header blocks have it, without Huffman's code."""
    return bytes((len(data),)) + data


def _frame(held: bytes) -> tuple[int, int, int, bytes, int] | None:
    """The first frame's kind, flags, stream, payload and size; None while it is not whole.

    Raises OSError for what is no HTTP/2.
    """
    if len(held) < frames.HEAD_BYTES:
        return None
    high, low, kind, flags, stream = frames.HEAD.unpack_from(held)
    size = frames.HEAD_BYTES + (high << 8 | low)
    # The largest frame that a server may send to a client that has not said otherwise.
    if size > frames.HEAD_BYTES + frames.SMALLEST_MAX_FRAME:
        raise OSError("what answers there does not speak gRPC")
    return (kind, flags, stream, held[frames.HEAD_BYTES : size], size) if len(held) >= size else None


def _is_whole(message: bytes) -> bool:
    length = int.from_bytes(message[1:_PREFIX_BYTES])
    return _PREFIX_BYTES <= len(message) >= _PREFIX_BYTES + length


def _health_status(message: bytes) -> str:
    number = message[1] if len(message) == 2 and message[0] == 0x08 else 0
    return _STATUSES[number] if number < len(_STATUSES) else _STATUSES[0]
