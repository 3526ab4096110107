"""How long a gRPC connection may live, be silent, and ping."""

import math

from ortolan.frontends.grpc.connection_life import (
    OPENING_S,
    PATIENCE_BYTES,
    PATIENCE_S,
    STALLED_S,
    ConnectionLife,
    Pace,
    Step,
)
from ortolan.frontends.grpc.options import KeepAlive


def life(**rules: object) -> ConnectionLife:
    found = ConnectionLife(KeepAlive(**rules), 0.0, 1.0)  # type: ignore[arg-type]
    found.opened = True
    return found


def test_a_client_that_says_nothing_is_closed() -> None:
    silent = ConnectionLife(KeepAlive(), 0.0, 1.0)
    assert silent.step(0, calls=False, waiting=False, sent_bytes=0) == (Step.NOTHING, OPENING_S)
    assert silent.step(OPENING_S, calls=False, waiting=False, sent_bytes=0)[0] is Step.CLOSE


def test_a_connection_grows_old_is_asked_to_leave_and_closed_after_its_grace() -> None:
    old = life(max_connection_age_ms=10_000, max_connection_age_grace_ms=3_000)
    assert old.step(9.9, calls=True, waiting=False, sent_bytes=0) == (Step.NOTHING, 10.0)
    assert old.step(10, calls=True, waiting=False, sent_bytes=0)[0] is Step.LEAVE
    assert old.step(12.9, calls=True, waiting=False, sent_bytes=0) == (Step.NOTHING, 13.0)
    assert old.step(13, calls=True, waiting=False, sent_bytes=0)[0] is Step.CLOSE


def test_an_old_connection_without_a_grace_period_may_finish_its_calls() -> None:
    old = life(max_connection_age_ms=10_000)
    assert old.step(10, calls=True, waiting=False, sent_bytes=0)[0] is Step.LEAVE
    assert old.step(1e6, calls=False, waiting=False, sent_bytes=0)[0] is Step.NOTHING


def test_a_silent_client_with_calls_is_pinged_and_closed_when_it_does_not_answer() -> None:
    watched = life(time_ms=5_000, timeout_ms=1_000)
    assert watched.step(4, calls=True, waiting=False, sent_bytes=0) == (Step.NOTHING, 5.0)
    assert watched.step(5, calls=True, waiting=False, sent_bytes=0)[0] is Step.PING
    assert watched.step(5.9, calls=True, waiting=False, sent_bytes=0) == (Step.NOTHING, 6.0)
    assert watched.step(6, calls=True, waiting=False, sent_bytes=0)[0] is Step.CLOSE


def test_an_answered_ping_is_followed_by_the_next_one() -> None:
    watched = life(time_ms=5_000, timeout_ms=1_000, max_pings_without_data=0)
    for second in (5, 10, 15):
        assert watched.step(second, calls=True, waiting=False, sent_bytes=0)[0] is Step.PING
        watched.ponged()
        watched.heard_s = second
    assert watched.step(16, calls=True, waiting=False, sent_bytes=0) == (Step.NOTHING, 20.0)


def test_without_calls_nobody_is_pinged_unless_that_is_permitted() -> None:
    assert life(time_ms=5_000).step(50, calls=False, waiting=False, sent_bytes=0)[0] is Step.NOTHING
    permitted = life(time_ms=5_000, permit_without_calls=True)
    assert permitted.step(50, calls=False, waiting=False, sent_bytes=0)[0] is Step.PING


def test_so_many_pings_are_sent_without_data() -> None:
    watched = life(time_ms=1_000, max_pings_without_data=2)
    for _ in range(2):
        assert watched.step(100, calls=True, waiting=False, sent_bytes=0)[0] is Step.PING
        watched.ponged()
    assert watched.step(200, calls=True, waiting=False, sent_bytes=0)[0] is Step.NOTHING
    watched.answered()
    assert watched.step(200, calls=True, waiting=False, sent_bytes=0)[0] is Step.PING


def test_a_client_that_takes_no_answer_for_long_is_closed_and_one_that_takes_a_little_is_not() -> None:
    slow = life()
    assert slow.step(0, calls=True, waiting=True, sent_bytes=100) == (Step.NOTHING, STALLED_S)
    assert slow.step(STALLED_S - 1, calls=True, waiting=True, sent_bytes=101)[0] is Step.NOTHING
    assert slow.step(2 * STALLED_S - 2, calls=True, waiting=True, sent_bytes=101)[0] is Step.NOTHING
    assert slow.step(2 * STALLED_S - 1, calls=True, waiting=True, sent_bytes=101)[0] is Step.CLOSE


def test_pings_more_often_than_allowed_are_counted_until_something_is_answered() -> None:
    watched = life(min_recv_ping_interval_ms=1_000, max_ping_strikes=2)
    assert [watched.too_many_pings(now, calls=True) for now in (0.0, 0.1, 0.2)] == [False, False, False]
    watched.answered()
    assert [watched.too_many_pings(now, calls=True) for now in (0.3, 0.4, 0.5, 0.6)] == [False, False, False, True]


def test_without_calls_two_hours_must_lie_between_pings() -> None:
    strict = life(min_recv_ping_interval_ms=1_000, max_ping_strikes=1)
    assert [strict.too_many_pings(now, calls=False) for now in (0.0, 60.0, 120.0)] == [False, False, True]
    lenient = life(min_recv_ping_interval_ms=1_000, max_ping_strikes=1, permit_without_calls=True)
    assert not any(lenient.too_many_pings(now, calls=False) for now in (0.0, 60.0, 120.0))


def test_no_strikes_mean_no_limit() -> None:
    watched = life(max_ping_strikes=0)
    assert not any(watched.too_many_pings(now / 100, calls=False) for now in range(100))
    assert math.isfinite(watched.step(1, calls=False, waiting=False, sent_bytes=0)[1])


def test_a_frame_that_does_not_end_closes_its_connection_and_many_that_do_end_do_not() -> None:
    slow = life()
    for second, frames in ((0, 1), (OPENING_S - 1, 2), (OPENING_S * 2 - 2, 2)):
        assert slow.step(second, False, False, 0, within=True, frames=frames)[0] is Step.NOTHING
    assert slow.step(OPENING_S * 2 - 1, False, False, 0, within=True, frames=2)[0] is Step.CLOSE


def test_a_request_that_comes_in_drops_is_too_slow_and_one_that_comes_is_not() -> None:
    dripping = Pace(0)
    assert not dripping.too_slow(PATIENCE_S - 1, owed=True, moved_bytes=10)
    assert dripping.too_slow(PATIENCE_S, owed=True, moved_bytes=20)
    flowing = Pace(0)
    for minute in range(1, 10):
        assert not flowing.too_slow(minute * PATIENCE_S, owed=True, moved_bytes=minute * PATIENCE_BYTES)


def test_a_client_that_owes_nothing_has_all_the_time_there_is() -> None:
    pace = Pace(0)
    assert not pace.too_slow(1e6, owed=False, moved_bytes=0)
    assert pace.ends_s == math.inf
    assert not pace.too_slow(1e6 + PATIENCE_S, owed=True, moved_bytes=0), "nobody knows since when"
    assert pace.ends_s == 1e6 + 2 * PATIENCE_S
    assert pace.too_slow(1e6 + 2 * PATIENCE_S, owed=True, moved_bytes=0)


def test_patience_ends_when_it_says_however_often_one_looks() -> None:
    pace = Pace(100, moved_bytes=7)
    for now_s in (110, 130, 159):
        assert not pace.too_slow(now_s, owed=True, moved_bytes=6 + PATIENCE_BYTES)
        assert pace.ends_s == 100 + PATIENCE_S
    assert pace.too_slow(pace.ends_s, owed=True, moved_bytes=6 + PATIENCE_BYTES)
