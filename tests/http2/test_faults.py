"""What a client may not do, and what becomes of the connection: raw frames against our side."""

import functools
import struct

import h2.events
import hpack
import pytest
from http2.peers import REQUEST, RESPONSE, Pair
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.http2 import frames
from ortolan.http2.faults import ErrorCode
from ortolan.http2.header_blocks import encode
from ortolan.http2.limits import Http2Limits

OPENING = frames.PREFACE + frames.settings({})


def block(*extra: tuple[str, str]) -> bytes:
    return bytes(hpack.Encoder().encode([*REQUEST, *extra]))


def headers(stream_id: int, *, end: bool = True, payload: bytes | None = None) -> bytes:
    return frames.header_frames(stream_id, block() if payload is None else payload, end, 1 << 20)


def data(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    return frames.head(len(payload), frames.DATA, flags, stream_id) + payload


def padded(stream_id: int, padding: int, payload: bytes) -> bytes:
    body = bytes((padding,)) + payload
    return frames.head(len(body), frames.DATA, frames.PADDED, stream_id) + body


def raw(kind: int, payload: bytes = b"", flags: int = 0, stream_id: int = 0) -> bytes:
    return frames.head(len(payload), kind, flags, stream_id) + payload


def told(pair: Pair) -> list[tuple[int, int, int, bytes]]:
    """The frames that our side sent: type, flags, stream, payload."""
    sent = pair.taken()
    found = []
    at = 0
    while at < len(sent):
        high, low, kind, flags, stream_id = frames.HEAD.unpack_from(sent, at)
        length = high << 8 | low
        found.append((kind, flags, stream_id, sent[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def last_word(pair: Pair) -> int:
    """The code of the GOAWAY that ends the connection."""
    kind, _, _, payload = told(pair)[-1]
    assert kind == frames.GOAWAY
    return int(struct.unpack_from(">LL", payload)[1])


FATAL = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "TLS": (bytes.fromhex("16030100f1010000ed0303"), ErrorCode.PROTOCOL_ERROR),
    "no settings first": (frames.PREFACE + frames.ping(b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "an acknowledgement first": (frames.PREFACE + frames.settings_ack(), ErrorCode.PROTOCOL_ERROR),
    "a huge frame": (OPENING + frames.head(2**24 - 1, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "a huge frame of headers": (OPENING + frames.head(500_000, frames.HEADERS, 0, 1), ErrorCode.ENHANCE_YOUR_CALM),
    "a short ping": (OPENING + raw(frames.PING, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "a ping on a stream": (OPENING + raw(frames.PING, b"12345678", stream_id=1), ErrorCode.PROTOCOL_ERROR),
    "half a setting": (OPENING + raw(frames.SETTINGS, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (OPENING + raw(frames.SETTINGS, b"123456", 1), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (OPENING + raw(frames.SETTINGS, b"", stream_id=3), ErrorCode.PROTOCOL_ERROR),
    "too many settings": (OPENING + raw(frames.SETTINGS, b"123456" * 65), ErrorCode.ENHANCE_YOUR_CALM),
    "a window that is too large": (
        OPENING + frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "frames that are too small": (OPENING + frames.settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "push that is neither": (OPENING + frames.settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "data without a stream": (OPENING + data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on a stream not begun": (OPENING + data(1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a window update on a stream not begun": (OPENING + frames.window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
    "a window update of 0": (OPENING + frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window past its end": (OPENING + frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "a reset of a stream not begun": (OPENING + frames.rst_stream(1, 8), ErrorCode.PROTOCOL_ERROR),
    "a reset without a stream": (OPENING + frames.rst_stream(0, 8), ErrorCode.PROTOCOL_ERROR),
    "a request on an even stream": (OPENING + headers(2), ErrorCode.PROTOCOL_ERROR),
    "headers that are no HPACK": (OPENING + headers(1, payload=b"\xff" * 9), ErrorCode.COMPRESSION_ERROR),
    "a table larger than agreed": (OPENING + headers(1, payload=b"\x3f\xff\xff\x7f"), ErrorCode.COMPRESSION_ERROR),
    "table sizes without end": (OPENING + headers(1, payload=b"\x20\x3f\x01\x20"), ErrorCode.COMPRESSION_ERROR),
    "an integer without end": (OPENING + headers(1, payload=b"\x7f" + b"\xff" * 50), ErrorCode.COMPRESSION_ERROR),
    "text that ends early": (OPENING + headers(1, payload=b"\x00\x7fabc"), ErrorCode.COMPRESSION_ERROR),
    "an entry that is not there": (OPENING + headers(1, payload=b"\xfe"), ErrorCode.COMPRESSION_ERROR),
    "an old stream again": (OPENING + headers(5) + headers(5), ErrorCode.PROTOCOL_ERROR),
    "a stream that was left out": (OPENING + headers(5) + headers(3), ErrorCode.PROTOCOL_ERROR),
    "a push that never comes": (
        OPENING + frames.head(1 << 20, frames.PUSH_PROMISE, 0, 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a push": (OPENING + raw(frames.PUSH_PROMISE, b"1234", stream_id=1), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of nothing": (OPENING + raw(frames.CONTINUATION, b"", 4, 1), ErrorCode.PROTOCOL_ERROR),
    "a frame within headers": (
        OPENING + raw(frames.HEADERS, block(), 0, 1) + frames.ping(b"12345678"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "data within headers": (OPENING + raw(frames.HEADERS, block(), 0, 1) + data(1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        OPENING + raw(frames.HEADERS, block(), 0, 1) + raw(frames.CONTINUATION, b"", 4, 3),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padding as long as its frame": (OPENING + headers(1, end=False) + padded(1, 4, b"abc"), ErrorCode.PROTOCOL_ERROR),
    "a stream that depends on itself": (
        OPENING + raw(frames.PRIORITY, struct.pack(">LB", 1, 0), stream_id=1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers without their priority": (OPENING + raw(frames.HEADERS, b"12", 0x24, 1), ErrorCode.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize(("sent", "code"), FATAL.values(), ids=FATAL)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_a_client_that_breaks_the_rules_is_told_so_and_loses_its_connection(
    sent: bytes, code: ErrorCode, piece_bytes: int
) -> None:
    pair = Pair()
    for at in range(0, len(sent), piece_bytes):
        pair.server.receive(sent[at : at + piece_bytes], 0)
    assert last_word(pair) == code
    assert pair.server.fault is not None
    assert not pair.server.streams


BROKEN_STREAMS = {
    "data after the end": (headers(1) + data(1, b"x"), ErrorCode.STREAM_CLOSED),
    "a second end of headers": (headers(1) + headers(1), ErrorCode.STREAM_CLOSED),
    "headers that do not end": (headers(1, end=False) + headers(1, end=False), ErrorCode.PROTOCOL_ERROR),
    "a window update of 0": (headers(1) + frames.window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "a window past its end": (headers(1) + frames.window_update(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "more data than its window": (
        headers(1, end=False) + data(1, bytes(1200)),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "an empty path": (headers(1, payload=b"\x83\x86\x04\x00"), ErrorCode.PROTOCOL_ERROR),
    "a path twice": (headers(1, payload=b"\x83\x86\x84\x84"), ErrorCode.PROTOCOL_ERROR),
    "a status": (headers(1, payload=b"\x83\x86\x84\x88"), ErrorCode.PROTOCOL_ERROR),
    "te that is not trailers": (headers(1, payload=b"\x83\x86\x84\x00\x02te\x04gzip"), ErrorCode.PROTOCOL_ERROR),
    "trailers that begin a request": (headers(1, end=False) + headers(1), ErrorCode.PROTOCOL_ERROR),
    "trailers in upper case": (
        headers(1, end=False) + headers(1, payload=b"\x00\x01A\x01a"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "no data where some were announced": (
        headers(1, payload=block(("content-length", "5"))),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "less data than announced": (
        headers(1, end=False, payload=block(("content-length", "5"))) + data(1, b"four", frames.END_STREAM),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a length that is none": (
        headers(1, end=False, payload=block(("content-length", "-0"))) + data(1, b"", frames.END_STREAM),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "two lengths": (
        headers(1, end=False, payload=block(("content-length", "5"), ("content-length", "4")))
        + data(1, b"four", frames.END_STREAM),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "no path": (headers(1, payload=b"\x83\x86"), ErrorCode.PROTOCOL_ERROR),
    "upper case": (headers(1, payload=block(("X-Upper", "1"))), ErrorCode.PROTOCOL_ERROR),
    "a line feed": (headers(1, payload=block(("x-a", "1\n2"))), ErrorCode.PROTOCOL_ERROR),
    "a connection field": (headers(1, payload=block(("connection", "close"))), ErrorCode.PROTOCOL_ERROR),
    "a pseudo-field behind others": (headers(1, payload=block((":path", "/"))), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_a_stream_that_breaks_the_rules_is_reset_and_the_others_go_on(sent: bytes, code: ErrorCode) -> None:
    pair = Pair(Http2Limits(stream_window=1000))
    pair.echo.answering = False
    pair.server.receive(OPENING + sent + headers(3), 0)
    assert (frames.RST_STREAM, 0, 1, struct.pack(">L", code)) in told(pair)
    assert [*pair.server.streams] == [3]
    assert pair.server.fault is None


FLOODS = {
    "rapid resets": lambda n: headers(2 * n + 1) + frames.rst_stream(2 * n + 1, 8),
    "pings": lambda _: frames.ping(b"12345678"),
    "settings": lambda _: frames.settings({}),
    "acknowledgements": lambda _: frames.settings_ack(),
    "updates of the connection's window": lambda _: frames.window_update(0, 1),
    "updates of a stream's window": lambda n: headers(1, end=False) if n == 0 else frames.window_update(1, 1),
    "padding alone": lambda n: headers(1, end=False) if n == 0 else padded(1, 3, b"abc"),
    "trailers of streams that have ended": lambda n: (
        headers(1) + frames.rst_stream(1, 8) if n == 0 else headers(1, payload=b"\x0f\x2d\x01a")
    ),
    "faults of streams": lambda n: headers(2 * n + 1, payload=b"\x83\x86"),
    "fields that take long to decode": lambda n: headers(2 * n + 1, payload=b"\x83" * (1000 + n % 300)),
    "large fields": lambda n: headers(2 * n + 1, payload=block() + encode(((b"x-%d" % n, b"a" * 16_000),))),
    "priorities": lambda n: raw(frames.PRIORITY, struct.pack(">LB", 0, 0), stream_id=2 * n + 1),
    "empty data": lambda n: headers(1, end=False) if n == 0 else data(1, b""),
    "unknown frames": lambda _: raw(0x42, b"abc"),
    "refused requests": lambda n: headers(2 * n + 1),
    "window updates of 0": lambda n: headers(2 * n + 1) + frames.window_update(2 * n + 1, 0),
    "data on streams that have ended": lambda n: (
        headers(1, end=False) + frames.rst_stream(1, 8) if n == 0 else data(1, b"x")
    ),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_its_connection_with_enhance_your_calm(flood) -> None:  # type: ignore[no-untyped-def]
    pair = Pair(Http2Limits(concurrent_streams=4))
    pair.echo.answering = False
    pair.server.receive(OPENING, 0)
    for number in range(2000):
        pair.server.receive(flood(number), number * 1e-5)
    assert last_word(pair) == ErrorCode.ENHANCE_YOUR_CALM
    assert not pair.server.streams


@functools.cache
def token(length: int) -> bytes:
    """A block of 2 KiB that takes a millisecond to decode; it adds to the table, so that none is remembered."""
    return block(hpack.NeverIndexedHeaderTuple("x-token", "a" * (3000 + length)))


@pytest.mark.parametrize("then", ["refused at once", "cancelled", "broken", "sent as trailers", "sent too late"])
def test_fields_that_take_long_to_decode_in_vain_are_paid_for(then: str) -> None:
    pair = Pair()
    pair.echo.answering = then == "refused at once"
    pair.server.receive(OPENING, 0)
    sent = 0
    while pair.server.fault is None and sent < 500:
        sent += 1
        stream = 2 * sent + 1
        if then in ("sent as trailers", "sent too late"):
            pair.server.receive(headers(stream, end=False), 0)
            if then == "sent too late":
                pair.server.reset(pair.server.streams[stream], ErrorCode.CANCEL)
            pair.server.receive(headers(stream, payload=token(0)[len(block()) :]), 0)
        else:
            extra = b"\x83" if then == "broken" else b""
            pair.server.receive(headers(stream, payload=token(0) + extra), 0)
            if then == "cancelled":
                pair.server.receive(frames.rst_stream(stream, 8), 0)
    assert last_word(pair) == ErrorCode.ENHANCE_YOUR_CALM
    assert 30 < sent < 150


def test_fields_that_take_long_to_decode_cost_nothing_where_the_request_is_answered() -> None:
    """A proxy sends each user's token, for hundreds of users at once, and some of them cancel."""
    pair = Pair()
    pair.echo.answering = False
    pair.server.receive(OPENING, 0)
    for begin in (1, 1001):
        ids = range(begin, begin + 1000, 2)
        for stream_id in ids:
            pair.server.receive(headers(stream_id, payload=token(stream_id % 10)), 0)
        for stream_id in ids:
            if stream_id % 8 == 1:
                pair.server.receive(frames.rst_stream(stream_id, 8), 0)
            else:
                pair.server.send_response(pair.server.streams[stream_id], RESPONSE, b"", RESPONSE)
        pair.taken()
    assert pair.server.fault is None


def test_settings_cost_as_much_as_they_let_through() -> None:
    pair = Pair()
    pair.echo.answering = False
    pair.server.receive(OPENING + frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), 0)
    for stream_id in range(1, 2048, 2):
        pair.server.receive(headers(stream_id), 0)
        pair.server.send_headers(pair.server.streams[stream_id], RESPONSE)
        pair.server.send_data(pair.server.streams[stream_id], bytes(100))
    sent = 0
    while pair.server.fault is None and sent < 100:
        sent += 1
        pair.server.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: sent}), 0)
    assert last_word(pair) == ErrorCode.ENHANCE_YOUR_CALM
    assert sent < 10


def test_settings_on_a_connection_where_nothing_waits_are_cheap() -> None:
    pair = Pair()
    pair.server.receive(OPENING, 0)
    for size in range(100):
        pair.server.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: size}), 0)
    assert pair.server.fault is None


def test_the_same_at_an_honest_pace_goes_on() -> None:
    pair = Pair()
    pair.server.receive(OPENING, 0)
    for number in range(3000):
        pair.server.receive(headers(2 * number + 1) + frames.rst_stream(2 * number + 1, 8), number * 0.02)
    assert pair.server.fault is None


def test_an_honest_client_may_update_its_windows_with_everything_that_it_gets() -> None:
    pair = Pair()
    pair.exchange()
    body = bytes(50_000)
    for _ in range(100):
        stream = pair.client.get_next_available_stream_id()
        pair.client.send_headers(stream, REQUEST)
        for at in range(0, len(body), 10_000):
            pair.client.send_data(stream, body[at : at + 10_000], end_stream=at == 40_000)
        while not pair.ended(stream):
            for event in pair.exchange():
                if isinstance(event, h2.events.DataReceived) and event.data:
                    # h2 itself waits until half of a window is used.
                    pair.client.increment_flow_control_window(len(event.data))
                    if not pair.ended(stream):
                        pair.client.increment_flow_control_window(len(event.data), stream)
    assert pair.server.fault is None


@pytest.mark.parametrize(("updates", "goes_on"), [(1, True), (2, True), (4, False)])
def test_a_thousand_requests_at_once_may_each_widen_a_window_or_two(updates: int, goes_on: bool) -> None:
    """As gRPC's clients do, long before anything is answered."""
    pair = Pair()
    pair.echo.answering = False
    pair.server.receive(OPENING, 0)
    for number in range(1000):
        stream = 2 * number + 1
        widened = frames.window_update(stream, 1000) + frames.window_update(0, 1000)
        pair.server.receive(headers(stream, end=False) + (widened * updates)[: updates * 13], 0)
    assert (pair.server.fault is None) == goes_on


def test_data_on_their_way_when_a_request_is_refused_cost_the_client_nothing() -> None:
    pair = Pair()
    pair.server.receive(OPENING, 0)
    for number in range(300):
        stream_id = 2 * number + 1
        pair.server.receive(headers(stream_id, end=False), 0)
        pair.server.send_end(pair.server.streams[stream_id], RESPONSE)
        pair.server.receive(data(stream_id, bytes(16_000)) * 40, 0)
    assert pair.server.fault is None


def test_cancelling_half_of_all_calls_at_any_pace_is_no_flood() -> None:
    pair = Pair()
    pair.server.receive(OPENING, 0)
    for number in range(5000):
        pair.echo.answering = bool(number % 2)
        pair.server.receive(headers(2 * number + 1), 0)
        if not pair.echo.answering:
            pair.server.receive(frames.rst_stream(2 * number + 1, 8), 0)
    assert pair.server.fault is None


def test_a_block_in_endless_continuations_ends_the_connection_before_it_takes_room() -> None:
    pair = Pair()
    pair.server.receive(OPENING + raw(frames.HEADERS, b"", 0, 1), 0)
    sent = 0
    while pair.server.fault is None and sent < 100:
        pair.server.receive(raw(frames.CONTINUATION, b"", 0, 1), 0)
        sent += 1
    assert last_word(pair) == ErrorCode.ENHANCE_YOUR_CALM
    assert sent <= Http2Limits().continuations


def test_fields_that_grow_when_decoded_end_the_connection() -> None:
    """One entry of the table, referred to again and again: a byte of the block is a kilobyte of fields."""
    encoder = hpack.Encoder()
    bomb = encoder.encode([*REQUEST, ("x-bomb", "a" * 3000)]) + b"\xbe" * 4000
    pair = Pair()
    pair.server.receive(OPENING + headers(1, payload=bytes(bomb)), 0)
    assert last_word(pair) == ErrorCode.ENHANCE_YOUR_CALM


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_it_raise(noise: bytes, framed: bool) -> None:
    pair = Pair()
    pair.server.receive(OPENING, 0)
    if framed and len(noise) > 6:
        noise = raw(noise[0] % 12, noise[3:], noise[1], noise[2] % 8)
    pair.server.receive(noise, 0)
    pair.server.receive(frames.ping(b"12345678"), 1)
    pair.taken()
