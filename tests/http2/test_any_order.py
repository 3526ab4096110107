"""Requests, resets, windows, cuts of bytes in any order, with the h2 library as the client: each answer is right."""

import h2.exceptions
import h2.settings
from http2.peers import REQUEST, Pair
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ortolan.http2.faults import ErrorCode
from ortolan.http2.limits import Http2Limits

WINDOW = 3000
STREAMS = 8


class AnyOrder(RuleBasedStateMachine):
    """The model: what was sent on each stream, and which of them the client gave up."""

    @initialize(window=st.sampled_from([0, 1, 100, 65_535]), large=st.booleans())
    def connect(self, window: int, large: bool) -> None:
        self.pair = Pair(Http2Limits(stream_window=WINDOW, connection_window=65_535, concurrent_streams=STREAMS))
        self.pair.client.update_settings(
            {
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: 100_000 if large else 16_384,
            }
        )
        self.pair.exchange()
        self.pair.acknowledging = False
        self.sent: dict[int, bytes] = {}
        self.open: list[int] = []
        self.given_up: set[int] = set()

    @precondition(lambda self: len(self.unanswered) < STREAMS)
    @rule(body=st.binary(max_size=40), times=st.integers(0, 300), end=st.booleans())
    def request(self, body: bytes, times: int, end: bool) -> None:
        stream = self.pair.client.get_next_available_stream_id()
        self.pair.client.send_headers(stream, REQUEST, end_stream=end and not body)
        self.sent[stream] = b""
        if not end or body:
            self.open.append(stream)
            self.send(stream, body * times, end)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), body=st.binary(max_size=3000), padding=st.integers(0, 255), end=st.booleans())
    def more(self, data: st.DataObject, body: bytes, padding: int, end: bool) -> None:
        self.send(data.draw(st.sampled_from(self.open)), body, end, padding)

    def send(self, stream: int, body: bytes, end: bool, padding: int | None = None) -> None:
        """As much as fits; with the rest forgotten."""
        room = self.pair.client.local_flow_control_window(stream) - (padding + 1 if padding is not None else 0)
        if room < 0:
            return
        body = body[: min(room, 16_000)]
        self.pair.client.send_data(stream, body, end_stream=end, pad_length=padding)
        self.sent[stream] += body
        if end:
            self.open.remove(stream)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.unanswered))
        self.pair.client.reset_stream(stream, ErrorCode.CANCEL)
        self.given_up.add(stream)
        if stream in self.open:
            self.open.remove(stream)

    @rule(stream=st.booleans(), more=st.sampled_from([1, 100, 65_535]), data=st.data())
    def widen(self, stream: bool, more: int, data: st.DataObject) -> None:
        if not stream:
            self.pair.client.increment_flow_control_window(more)
        elif self.unanswered:
            self.pair.client.increment_flow_control_window(more, data.draw(st.sampled_from(self.unanswered)))

    @rule(size=st.sampled_from([0, 1, 100, 65_535]))
    def resize(self, size: int) -> None:
        self.pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})

    @rule()
    def ping(self) -> None:
        self.pair.client.ping(b"12345678")

    @rule(piece_bytes=st.integers(1, 2000))
    def carry(self, piece_bytes: int) -> None:
        self.pair.now_s += 1
        self.pair.exchange(piece_bytes)

    @rule(full=st.booleans())
    def fill_transport(self, full: bool) -> None:
        self.pair.server.outgoing.paused = full

    @property
    def unanswered(self) -> list[int]:
        return [stream for stream in self.sent if stream not in self.given_up and not self.pair.ended(stream)]

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not hasattr(self, "pair"):
            return
        server = self.pair.server
        assert server.fault is None
        for stream in self.sent:
            answer = self.pair.answer(stream)
            assert self.sent[stream].startswith(answer)
            if self.pair.ended(stream):
                assert answer == self.sent[stream]
        assert server.outgoing.unsent_bytes == sum(stream.unsent_bytes for stream in server.streams.values())
        assert len(server.streams) <= STREAMS

    def teardown(self) -> None:
        """Everything that was not given up is answered in the end, and nothing stays."""
        if not hasattr(self, "pair"):
            return
        pair = self.pair
        pair.server.outgoing.paused = False
        for stream in [*self.open]:
            self.send(stream, b"", end=True)
        pair.acknowledging = True
        self.resize(65_535)
        pair.exchange()
        for stream in self.unanswered:
            pair.client.increment_flow_control_window(1_000_000, stream)
        pair.client.increment_flow_control_window(10_000_000)
        pair.exchange()
        assert not self.unanswered
        self.nothing_is_wrong()
        assert not pair.server.streams
        assert not pair.server.outgoing.waits
        assert pair.server.outgoing.unsent_bytes == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
