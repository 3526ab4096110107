"""Our side of HTTP/2 against the h2 library as the client."""

from collections import Counter

import h2.events
import pytest
from h2.settings import SettingCodes
from http2.peers import REQUEST, RESPONSE, TRAILERS, Pair
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.http2 import frames
from ortolan.http2.faults import ErrorCode
from ortolan.http2.limits import Http2Limits
from ortolan.http2.outgoing import BURST_BYTES


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 700))
@settings(max_examples=60, deadline=None)
def test_every_body_comes_back_however_the_bytes_are_cut(bodies: list[bytes], piece_bytes: int) -> None:
    pair = Pair()
    streams = []
    for body in bodies:
        stream = pair.client.get_next_available_stream_id()
        pair.client.send_headers(stream, REQUEST, end_stream=not body)
        if body:
            pair.client.send_data(stream, body, end_stream=True, pad_length=len(body) % 256)
        streams.append(stream)
    pair.exchange(piece_bytes)
    assert pair.server.fault is None
    assert [pair.answer(stream) for stream in streams] == bodies
    assert all(pair.ended(stream) for stream in streams)
    assert not pair.server.streams


@pytest.mark.parametrize("size", [65_535, 65_536, 1 << 20, 3_000_000])
def test_bodies_larger_than_every_window_come_back(size: int) -> None:
    pair = Pair()
    pair.exchange()
    body = bytes(range(256)) * (size // 256 + 1)
    stream = pair.request(body[:size])
    pair.exchange()
    assert pair.answer(stream) == body[:size]
    assert pair.ended(stream)


def test_an_answer_waits_for_the_clients_window_and_its_trailers_wait_for_the_answer() -> None:
    pair = Pair()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.exchange()
    stream = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream, REQUEST)
    pair.client.send_data(stream, b"x" * 25, end_stream=True)
    pair.server.receive(pair.client.data_to_send(), 0)
    events = pair.client.receive_data(pair.taken())
    assert [event.data for event in events if isinstance(event, h2.events.DataReceived)] == [b"x" * 10]
    assert not any(isinstance(event, h2.events.StreamEnded) for event in events)
    pair.client.increment_flow_control_window(100, stream)
    events = pair.exchange()
    assert [event.data for event in events if isinstance(event, h2.events.DataReceived)] == [b"x" * 15]
    assert pair.ended(stream)


def test_a_window_that_shrinks_below_nothing_holds_the_answer_back() -> None:
    pair = Pair()
    pair.echo.answering = False
    pair.exchange()
    stream = pair.request(b"y" * 20)
    pair.exchange()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 5})
    pair.exchange()
    answered = pair.server.streams[stream]
    pair.server.send_headers(answered, RESPONSE)
    pair.server.send_data(answered, b"z" * 20)
    pair.server.send_end(answered, b"")
    pair.exchange()
    assert pair.answer(stream) == b"z" * 20


@pytest.mark.parametrize("body", [b"", b"body", b"x" * 100_000], ids=len)
def test_an_answer_may_end_without_fields(body: bytes) -> None:
    """Behind data that had to wait as well."""
    pair = Pair()
    pair.echo.answering = False
    stream = pair.request(b"y")
    pair.exchange()
    answered = pair.server.streams[stream]
    pair.server.send_headers(answered, RESPONSE)
    pair.server.send_data(answered, body)
    pair.server.send_end(answered, b"")
    events = pair.exchange()
    assert (pair.answer(stream), pair.ended(stream), [*pair.server.streams]) == (body, True, [])
    assert not any(isinstance(event, h2.events.TrailersReceived) for event in events)


def test_data_wait_while_the_transport_is_full_and_control_frames_do_not() -> None:
    pair = Pair()
    pair.exchange()
    pair.server.outgoing.paused = True
    stream = pair.request(b"body")
    pair.client.ping(b"12345678")
    events = pair.exchange()
    assert any(isinstance(event, h2.events.PingAckReceived) for event in events)
    assert pair.answer(stream) == b""
    pair.server.outgoing.paused = False
    pair.server.resume()
    pair.exchange()
    assert pair.answer(stream) == b"body"


def test_streams_take_turns_when_the_connections_window_is_small() -> None:
    pair = Pair()
    pair.exchange()
    bodies = {}
    for number in range(8):
        body = bytes([number]) * 40_000
        bodies[pair.request(body)] = body
    pair.exchange()
    assert {stream: pair.answer(stream) for stream in bodies} == bodies


def test_a_small_answer_is_not_held_up_by_large_ones_and_those_share_what_there_is() -> None:
    pair = Pair()
    pair.client.increment_flow_control_window(1 << 30)
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
    pair.exchange()
    pair.echo.answering = False
    large, other, small = (pair.request(b"1") for _ in range(3))
    pair.exchange()
    streams = {number: pair.server.streams[number] for number in (large, other, small)}
    for number in (large, other):
        pair.server.send_headers(streams[number], RESPONSE)
        pair.server.send_data(streams[number], bytes(10 << 20))
    first = b"".join(pair.server.to_send())
    assert len(first) < BURST_BYTES + 100_000, "the transport is not given everything at once"
    pair.server.send_response(streams[small], RESPONSE, b"small", TRAILERS)
    pair.client.receive_data(first)
    events = pair.client.receive_data(b"".join(pair.server.to_send()))
    assert [event.data for event in events if isinstance(event, h2.events.DataReceived)] == [b"small"]
    turns = pair.client.receive_data(b"".join(pair.server.to_send()))
    sizes = Counter({large: 0, other: 0})
    for event in turns:
        if isinstance(event, h2.events.DataReceived):
            sizes[event.stream_id] += len(event.data)
    assert min(sizes.values()) > 0.8 * max(sizes.values()) > 0


def test_a_window_that_opens_while_the_transport_is_full_is_not_forgotten() -> None:
    pair = Pair()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    pair.exchange()
    stream = pair.request(b"body")
    pair.exchange()
    pair.server.outgoing.paused = True
    pair.client.increment_flow_control_window(100, stream)
    pair.exchange()
    pair.server.outgoing.paused = False
    pair.exchange()
    assert pair.answer(stream) == b"body"


@pytest.mark.parametrize(
    ("body", "at_once"), [(b"a", True), (b"", True), (bytes(16_384), True), (bytes(16_385), False)]
)
def test_a_small_response_is_one_piece_and_otherwise_nothing_is_sent(body: bytes, at_once: bool) -> None:
    pair = Pair()
    pair.echo.answering = False
    pair.exchange()
    stream = pair.request(b"1")
    pair.exchange()
    answered = pair.server.streams[stream]
    assert pair.server.send_response(answered, RESPONSE, body, TRAILERS) is at_once
    pair.exchange()
    assert (pair.answer(stream), pair.ended(stream)) == (body if at_once else b"", at_once)
    assert bool(pair.server.streams) is not at_once


def test_a_request_that_the_client_resets_is_cancelled() -> None:
    pair = Pair()
    pair.echo.answering = False
    stream = pair.request(b"z")
    pair.exchange()
    pair.client.reset_stream(stream, ErrorCode.CANCEL)
    pair.exchange()
    assert pair.echo.cancelled_streams == [stream]
    assert not pair.server.streams


def test_more_streams_than_allowed_are_refused_and_the_others_answered() -> None:
    pair = Pair(Http2Limits(concurrent_streams=2))
    pair.echo.answering = False
    # Without the exchange, the client does not know the limit.
    streams = [pair.request() for _ in range(3)]
    events = pair.exchange()
    resets = [event for event in events if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(streams[2], ErrorCode.REFUSED_STREAM)]
    assert [*pair.server.streams] == streams[:2]


def test_after_the_last_goaway_new_requests_are_refused_and_old_ones_answered() -> None:
    pair = Pair()
    pair.echo.answering = False
    first = pair.request(b"1")
    pair.exchange()
    second = pair.client.get_next_available_stream_id()
    pair.client.send_headers(second, REQUEST, end_stream=True)
    late = pair.client.data_to_send()
    pair.server.go_away()
    pair.server.receive(late, 0)
    assert [*pair.server.streams] == [first]
    stream = pair.server.streams[first]
    pair.server.send_end(stream, b"")
    assert not pair.server.streams
    assert frames.rst_stream(second, ErrorCode.REFUSED_STREAM) in pair.taken()


def test_header_lists_that_are_large_are_marked_and_huge_ones_end_the_connection() -> None:
    pair = Pair()
    pair.request(headers=[*REQUEST, ("x-large", "a" * 20_000)])
    pair.exchange()
    assert [headers.too_large for _, headers in pair.echo.requests] == [True]
    assert pair.server.fault is None
    pair.request(headers=[*REQUEST, ("x-huge", "a" * 70_000)])
    pair.server.receive(pair.client.data_to_send(), 0)
    assert pair.server.fault is not None
    assert pair.server.fault.code == ErrorCode.ENHANCE_YOUR_CALM


def test_equal_header_blocks_are_decoded_once_until_the_table_changes() -> None:
    pair = Pair()
    for _ in range(4):
        pair.request()
    pair.exchange()
    lists = [headers for _, headers in pair.echo.requests]
    assert lists[1] is lists[2] is lists[3]
    pair.request(headers=[*REQUEST, ("x-new", "1")])
    pair.request()
    pair.exchange()
    told = [headers.fields for _, headers in pair.echo.requests]
    assert told[4] == (*told[0], (b"x-new", b"1"))
    assert told[5] == told[0]
