"""HTTP/2 by hand, for what no client library would send to a gRPC port."""

import socket
import struct
from collections.abc import Iterator
from types import TracebackType

from callers import LONGEST_S

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_PAYLOAD = 16_384

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call_headers(stream: int, path: str, **more: str) -> bytes:
    """The frame that opens a gRPC call; names with underscores stand for those with dashes."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    fields |= {"content-type": "application/grpc"} | {name.replace("_", "-"): value for name, value in more.items()}
    # Each literally, with its name, and never indexed: HPACK's simplest form.
    block = b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def message(data: bytes, compressed: bool) -> bytes:
    """``data`` as gRPC has its messages: a flag and the length before them."""
    return struct.pack(">BI", compressed, len(data)) + data


def data_frames(stream: int, data: bytes) -> bytes:
    """``data`` in frames of the largest size there is without asking, the last of which ends the stream."""
    parts = [data[start : start + LARGEST_PAYLOAD] for start in range(0, len(data), LARGEST_PAYLOAD)]
    return b"".join(frame(DATA, END_STREAM * (part is parts[-1]), stream, part) for part in parts)


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127, "longer ones take several bytes to say so"
    return bytes([len(data)]) + data


class Http2:
    """One connection, after the preface."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), LONGEST_S)
        self.send(PREFACE + frame(SETTINGS, 0, 0, b""))

    def __enter__(self) -> "Http2":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def frames(self) -> Iterator[Frame]:
        """What the server sends, until it closes the connection."""
        while head := self._read(9):
            size = int.from_bytes(head[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            yield kind, flags, stream, self._read(size)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._socket.recv(size - len(found))
            if not piece:
                return b""
            found += piece
        return found
