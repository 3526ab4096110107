"""Our client's side of gRPC against the h2 library as the server."""

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from ortolan.bench.grpc_exchange import GrpcExchange
from ortolan.bench.http_exchange import Answer
from ortolan.bench.load import Form, PreparedRequest
from ortolan.http2 import header_blocks

HEAD = header_blocks.encode(
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/b"), (b":authority", b"x"), (b"te", b"trailers")]
)
TRAILERS = [("grpc-status", "0")]


def framed(message: bytes) -> bytes:
    return struct.pack(">BL", 0, len(message)) + message


def request(message: bytes = b"question") -> PreparedRequest:
    return PreparedRequest(Form.GRPC, HEAD, framed(message))


class Peer:
    """A server made of h2: what it received by stream, and answers to send."""

    def __init__(self, window: int = 65_535) -> None:
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.connection.initiate_connection()
        self.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.received: dict[int, bytes] = {}
        self.ended: list[int] = []

    def take(self, data: bytes, grant: bool = True) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.received[event.stream_id] = b""
                assert (b":path", b"/a/b") in [(bytes(k), bytes(v)) for k, v in map(_encoded, event.headers)]
            elif isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] += event.data
                if grant:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.append(event.stream_id)

    def answer(self, stream: int, message: bytes) -> None:
        self.connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        data = framed(message)
        for at in range(0, len(data), 16_384):
            self.connection.send_data(stream, data[at : at + 16_384])
        self.connection.send_headers(stream, TRAILERS, end_stream=True)


def _encoded(field: tuple[str | bytes, str | bytes]) -> list[bytes]:
    return [each.encode() if isinstance(each, str) else bytes(each) for each in field]


def connected(peer: Peer) -> GrpcExchange:
    exchange = GrpcExchange()
    peer.take(exchange.outgoing())
    assert exchange.receive(peer.connection.data_to_send()) == []
    peer.take(exchange.outgoing())
    return exchange


def test_calls_are_answered_out_of_order_with_their_own_tags() -> None:
    peer = Peer()
    exchange = connected(peer)
    for tag in "abc":
        exchange.ask(request(tag.encode()), tag)
    peer.take(exchange.outgoing())
    assert peer.received == {1: framed(b"a"), 3: framed(b"b"), 5: framed(b"c")}
    for stream in (5, 1, 3):
        peer.answer(stream, b"to %d" % stream)
    answers = exchange.receive(peer.connection.data_to_send())
    assert answers == [Answer("c", "", b"to 5"), Answer("a", "", b"to 1"), Answer("b", "", b"to 3")]
    assert exchange.lost() == []


@pytest.mark.parametrize("size", [1, 5, 100])
def test_answers_come_in_pieces_of_any_size(size: int) -> None:
    peer = Peer()
    exchange = connected(peer)
    exchange.ask(request(), 1)
    peer.take(exchange.outgoing())
    peer.answer(1, bytes(1000))
    data = peer.connection.data_to_send()
    answers = [answer for at in range(0, len(data), size) for answer in exchange.receive(data[at : at + size])]
    assert answers == [Answer(1, "", bytes(1000))]


@pytest.mark.parametrize("window", [1000, 65_535, 1 << 20])
def test_a_large_request_waits_for_the_servers_windows(window: int) -> None:
    peer = Peer(window)
    exchange = connected(peer)
    message = bytes(range(256)) * 1200
    exchange.ask(request(message), 1)
    for _ in range(2000):
        peer.take(exchange.outgoing())
        if peer.ended:
            break
        exchange.receive(peer.connection.data_to_send())
    assert peer.received == {1: framed(message)}


def test_a_call_that_ends_without_a_message_has_failed() -> None:
    peer = Peer()
    exchange = connected(peer)
    exchange.ask(request(), 1)
    peer.take(exchange.outgoing())
    peer.connection.send_headers(1, [(":status", "200"), ("grpc-status", "14")], end_stream=True)
    assert exchange.receive(peer.connection.data_to_send()) == [Answer(1, "gRPC error", b"")]


def test_a_call_that_is_reset_has_failed() -> None:
    peer = Peer()
    exchange = connected(peer)
    exchange.ask(request(), 1)
    peer.take(exchange.outgoing())
    peer.connection.reset_stream(1)
    assert exchange.receive(peer.connection.data_to_send()) == [Answer(1, "reset by the server", b"")]


def test_a_ping_is_answered_and_a_goodbye_noticed() -> None:
    peer = Peer()
    exchange = connected(peer)
    exchange.ask(request(), 9)
    peer.take(exchange.outgoing())
    peer.connection.ping(b"12345678")
    peer.connection.close_connection()
    exchange.receive(peer.connection.data_to_send())
    assert b"12345678" in exchange.outgoing()
    assert exchange.over
    assert exchange.lost() == [9]


def test_what_is_no_http2_is_refused() -> None:
    with pytest.raises(ValueError, match="does not answer in HTTP/2"):
        GrpcExchange().receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
