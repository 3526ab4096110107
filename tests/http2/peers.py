"""The two ends of a connection in memory: ours, and the h2 library as the client."""

from collections import defaultdict

import h2.config
import h2.connection
import h2.events

from ortolan.http2.connection import Http2Connection
from ortolan.http2.header_blocks import HeaderList, encode
from ortolan.http2.limits import Http2Limits
from ortolan.http2.stream import Stream

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
RESPONSE = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
TRAILERS = encode(((b"grpc-status", b"0"),))


class Echo:
    """Answers each request with its own data; remembers what it was told."""

    def __init__(self) -> None:
        self.connection: Http2Connection
        self.requests: list[tuple[int, HeaderList]] = []
        self.bodies: dict[int, bytearray] = {}
        self.cancelled_streams: list[int] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.answering = True

    def requested(self, stream: Stream, headers: HeaderList, ended: bool) -> None:
        self.requests.append((stream.id, headers))
        self.bodies[stream.id] = bytearray()
        if ended:
            self._answer(stream)

    def data_came(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        self.bodies[stream.id] += data
        self.connection.consumed(stream, len(data))
        if ended:
            self._answer(stream)

    def cancelled(self, stream: Stream) -> None:
        self.cancelled_streams.append(stream.id)

    def sent(self, stream: Stream) -> None:
        pass

    def pinged(self) -> None:
        self.pings += 1

    def ponged(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def _answer(self, stream: Stream) -> None:
        if self.answering:
            self.connection.send_headers(stream, RESPONSE)
            self.connection.send_data(stream, bytes(self.bodies[stream.id]))
            self.connection.send_end(stream, TRAILERS)


class Pair:
    """A client and our side, whose bytes are carried by ``exchange``."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self.echo = Echo()
        self.now_s = 0.0
        self.server = self.echo.connection = Http2Connection(limits or Http2Limits(), self.echo, self.now_s)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()
        self.server.open()
        self.events: list[h2.events.Event] = []
        self.acknowledging = True
        """Whether the client opens its windows again as it receives."""
        self._answers: dict[int, bytearray] = defaultdict(bytearray)
        self._ended: set[int] = set()

    def exchange(self, piece_bytes: int = 1 << 16) -> list[h2.events.Event]:
        """Carry bytes both ways, in pieces, until nobody has any; what the client noticed."""
        noticed: list[h2.events.Event] = []
        while True:
            to_server = self.client.data_to_send()
            for at in range(0, len(to_server), piece_bytes):
                self.server.receive(to_server[at : at + piece_bytes], self.now_s)
            to_client = self.taken()
            if not to_server and not to_client:
                self.events += noticed
                return noticed
            for at in range(0, len(to_client), piece_bytes):
                for event in self.client.receive_data(to_client[at : at + piece_bytes]):
                    noticed.append(event)
                    self._note(event)

    def taken(self) -> bytes:
        """What our side sends."""
        return b"".join(b"".join(pieces) for pieces in iter(self.server.to_send, []))

    def request(self, body: bytes = b"", headers: list[tuple[str, str]] | None = None) -> int:
        """Send a request, as far as our windows allow; its stream."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers or REQUEST, end_stream=not body)
        while body:
            self.exchange()
            size = min(len(body), self.client.local_flow_control_window(stream_id), self.client.max_outbound_frame_size)
            self.client.send_data(stream_id, body[:size], end_stream=size == len(body))
            body = body[size:]
        return stream_id

    def answer(self, stream_id: int) -> bytes:
        """The data that the client received on the stream."""
        return bytes(self._answers[stream_id])

    def ended(self, stream_id: int) -> bool:
        return stream_id in self._ended

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamEnded):
            self._ended.add(event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            self._answers[event.stream_id] += event.data
            if self.acknowledging:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
