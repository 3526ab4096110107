"""What a probe says of answers, from servers that say anything: real sockets, and bytes written by hand."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.commands.address import Address
from ortolan.commands.connection import Connection, TlsFiles
from ortolan.commands.health_questions import grpc_health, http_status, metrics_say
from ortolan.http2 import frames

TIMEOUT_S = 20.0
SETTINGS = frames.settings({frames.MAX_CONCURRENT_STREAMS: 100})
HEADERS = frames.header_frames(1, b"\x88", False, 16384)
TRAILERS_ONLY = frames.header_frames(1, b"\x88", True, 16384)


def data(message: bytes, flags: int = 0) -> bytes:
    return frames.head(len(message), frames.DATA, flags, 1) + message


def health(status: int) -> bytes:
    return data(b"\0\0\0\0\2\x08" + bytes((status,)))


@contextmanager
def saying(*pieces: bytes) -> Iterator[Connection]:
    """A connection to a server that says ``pieces``, one after the other, whatever it is asked, and then ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT_S)
        port = listening.getsockname()[1]

        def serve() -> None:
            served, _ = listening.accept()
            with served:
                served.settimeout(TIMEOUT_S)
                served.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                served.recv(1 << 16)
                for piece in pieces:
                    served.sendall(piece)
                served.shutdown(socket.SHUT_WR)
                while served.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with Connection(Address("127.0.0.1", port), TlsFiles(), TIMEOUT_S) as connection:
            yield connection
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n"], 200),
        ([b"HTTP/1.", b"1 503", b" Service Unavailable\r\nretry-after: 1\r\n\r\n"], 503),
        ([b"HTTP/1.0 404 Not Found\r\n"], 404),
    ],
)
def test_the_status_is_in_the_first_line(pieces: list[bytes], status: int) -> None:
    with saying(*pieces) as connection:
        assert http_status(connection, "h", "/v2/health/ready") == status


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-server\r\n", b"HTTP/2\r\n", b"HTTP/1.1 two\r\n", b"\x15\3\1\0\2\2F\r\n"]
)
def test_what_is_no_http_is_said_to_be_none(answer: bytes) -> None:
    with saying(answer) as connection, pytest.raises(OSError, match=r"does not speak HTTP/1\.1"):
        http_status(connection, "h", "/")


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n# HELP x\nortolan_ready 1\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\nortolan_ready 0\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nortolan_ready 10\n", False),  # the whole line
        (b"HTTP/1.1 503 No\r\n\r\nortolan_ready 1\n", False),
    ],
)
def test_a_page_of_metrics_says_whether_the_server_is_ready(page: bytes, says: bool) -> None:
    with saying(page) as connection:
        assert metrics_say(connection, "h", b"ortolan_ready 1") == says


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([SETTINGS + HEADERS + health(1)], "SERVING"),
        ([SETTINGS, HEADERS, health(2)], "NOT_SERVING"),
        ([HEADERS + health(3)], "SERVICE_UNKNOWN"),
        ([HEADERS + data(b"\0\0\0\0\0")], "UNKNOWN"),  # an empty message: the field is 0
        ([HEADERS + data(b"\0\0\0\0\2") + data(b"\x08\1")], "SERVING"),  # in two frames
        ([HEADERS + health(9)], "UNKNOWN"),
    ],
)
def test_the_status_of_grpc_is_in_the_message(pieces: list[bytes], status: str) -> None:
    with saying(*pieces) as connection:
        assert grpc_health(connection, "h", False) == status


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([SETTINGS + TRAILERS_ONLY], "no grpc.health.v1"),
        ([SETTINGS + frames.rst_stream(1, 7)], "no grpc.health.v1"),
        ([SETTINGS + frames.goaway(0, 0)], "no grpc.health.v1"),
        ([SETTINGS], "was closed"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak gRPC"),
    ],
)
def test_a_call_that_is_not_answered_says_why(pieces: list[bytes], said: str) -> None:
    with saying(*pieces) as connection, pytest.raises(OSError, match=said):
        grpc_health(connection, "h", False)


ASK: list[Callable[[Connection], object]] = [
    lambda connection: http_status(connection, "h", "/"),
    lambda connection: metrics_say(connection, "h", b"x"),
    lambda connection: grpc_health(connection, "h", False),
]


class Said:
    """A connection on which these bytes come."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@given(pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6), which=st.integers(0, 2))
def test_no_bytes_whatever_raise_anything_but_a_failed_connection(pieces: list[bytes], which: int) -> None:
    with contextlib.suppress(OSError):
        ASK[which](Said(pieces))  # type: ignore[arg-type]
