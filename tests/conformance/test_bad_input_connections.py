"""Connections to the gRPC port that are none, or that flood it, row by row: others are answered all the same.

The rows are numbered as in our list of bad input; 94 to 98 are these.
"""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import grpc
import pytest
from callers import LONGEST_S, grpc_request, row
from conformance import http2
from conformance.memory import peak_growth_bytes
from conformance.served import Served
from conformance.wire import SERVICE, Grpc

from ortolan.protocol import protobuf_messages as messages

INFER_PATH = f"/{SERVICE}/ModelInfer"
ROW = row(7)
# A channel with a connection that it shares with no other.
OWN = [("grpc.use_local_subchannel_pool", 1)]
GOOD = grpc_request("batched", ROW)


@pytest.fixture
def grpc_(bad_grpc_input: Served) -> Iterator[Grpc]:
    grpc_ = Grpc(bad_grpc_input.server)
    yield grpc_
    grpc_.close()


def is_right(data: bytes) -> bool:
    return [*messages.ModelInferResponse.FromString(data).raw_output_contents] == [ROW.tobytes()]


def assert_answers(grpc_: Grpc) -> None:
    assert is_right(grpc_.send("ModelInfer", GOOD))


def test_row_94_who_pings_without_end_is_sent_away(bad_grpc_input: Served, grpc_: Grpc) -> None:
    with http2.Http2(bad_grpc_input.server.grpc_port) as connection:
        connection.send(http2.frame(http2.PING, 0, 0, bytes(8)) * 20)
        (goaway,) = (payload for kind, _, _, payload in connection.frames() if kind == http2.GOAWAY)
    assert goaway.endswith(b"too_many_pings")
    assert_answers(grpc_)


def test_row_95_streams_that_are_reset_at_once_disturb_no_one_else(bad_grpc_input: Served, grpc_: Grpc) -> None:
    """Our own transport closes the connection after a while; gRPC's library does not, which is all that is asked."""
    cancel = struct.pack(">I", 8)

    def reset() -> None:
        # A server that has enough of it may close the connection.
        with http2.Http2(bad_grpc_input.server.grpc_port) as connection, contextlib.suppress(ConnectionError):
            for stream in range(1, 4001, 2):
                opened = http2.call_headers(stream, INFER_PATH)
                connection.send(opened + http2.frame(http2.RST_STREAM, 0, stream, cancel))
                if stream % 100 == 1:
                    assert_answers(grpc_)

    assert peak_growth_bytes(bad_grpc_input.server, reset) < 64 << 20
    assert_answers(grpc_)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
        bytes(4096),
        http2.PREFACE + b"\xff" * 4096,
        http2.PREFACE + http2.frame(http2.DATA, 0, 1, b"data before headers"),
    ],
    ids=["HTTP/1.1", "TLS", "zeros", "frames of nothing", "data without a stream"],
)
def test_row_96_what_is_no_http_2_is_closed(bad_grpc_input: Served, grpc_: Grpc, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", bad_grpc_input.server.grpc_port), LONGEST_S) as raw:
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    assert_answers(grpc_)


def test_row_97_connections_that_say_nothing_keep_no_one_else_out(bad_grpc_input: Served, grpc_: Grpc) -> None:
    """They are closed after 20 seconds (by grpcio, after two minutes), which is not waited for here."""
    silent = [socket.create_connection(("127.0.0.1", bad_grpc_input.server.grpc_port), LONGEST_S) for _ in range(200)]
    try:
        assert_answers(grpc_)
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("connections", [1, 50])
async def test_row_98_of_5000_calls_at_once_each_gets_an_answer_or_a_reason(
    bad_grpc_input: Served, connections: int
) -> None:
    async def outcome(channel: grpc.aio.Channel) -> str:
        try:
            return "right" if is_right(await channel.unary_unary(INFER_PATH)(GOOD, timeout=60)) else "wrong"
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)

    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(bad_grpc_input.server.grpc, options=OWN))
            for _ in range(connections)
        ]
        outcomes = Counter(await asyncio.gather(*(outcome(channels[at % connections]) for at in range(5000))))
    assert outcomes["right"] > 0
    assert set(outcomes) <= {"right", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}, outcomes
