"""When a batch may run on the event loop, and for how long not after one that took too long."""

import pytest

from ortolan.execution.cost_curve import CurvePoint
from ortolan.execution.inline_gate import InlineGate

LIMIT_NS = 80_000
SECOND_NS = 1_000_000_000
POINTS = [CurvePoint(1, 10_000), CurvePoint(8, 40_000), CurvePoint(32, 160_000)]


def gate() -> InlineGate:
    return InlineGate(POINTS, 64, LIMIT_NS)


@pytest.mark.parametrize(
    ("rows", "admitted"), [(1, True), (8, True), (16, True), (17, False), (32, False), (64, False)]
)
def test_a_batch_is_admitted_while_it_is_cheaper_than_a_hop(rows: int, admitted: bool) -> None:
    assert gate().admits(rows, 0) is admitted


def test_runs_as_calibrated_keep_it_open() -> None:
    opened = gate()
    for now_ns in range(0, 10**9, 10**6):
        opened.observe(8, 40_000, 40_000, now_ns)
        assert opened.admits(8, now_ns)


@pytest.mark.parametrize("duration_ns", [LIMIT_NS + 1, 2 * LIMIT_NS, 10 * LIMIT_NS])
def test_one_run_that_was_held_up_does_not_close_it(duration_ns: int) -> None:
    opened = gate()
    opened.observe(1, duration_ns, duration_ns, 0)
    assert opened.admits(1, 0)


@pytest.mark.parametrize("duration_ns", [LIMIT_NS * 11, LIMIT_NS * 1000])
def test_a_run_that_stalls_the_loop_closes_it_for_twenty_times_as_long(duration_ns: int) -> None:
    closed = gate()
    closed.observe(1, duration_ns, duration_ns, 5)
    assert not closed.admits(1, 5)
    assert not closed.admits(1, 4 + 20 * duration_ns)
    assert closed.admits(1, 5 + 20 * duration_ns)


@pytest.mark.parametrize("times", [2.5, 4, 9])
def test_runs_that_take_too_long_again_and_again_close_it_for_a_second(times: float) -> None:
    closed = gate()
    runs = 0
    while closed.admits(1, 0):
        closed.observe(1, int(times * LIMIT_NS), int(times * LIMIT_NS), 0)
        runs += 1
    assert runs <= 20
    assert not closed.admits(1, SECOND_NS - 1)
    assert closed.admits(1, SECOND_NS)  # and begins again from the calibration


def test_a_size_that_takes_too_long_does_not_close_it_for_others() -> None:
    half_open = gate()
    while half_open.admits(8, 0):
        half_open.observe(8, 3 * LIMIT_NS, 3 * LIMIT_NS, 0)
        half_open.observe(1, 10_000, 10_000, 0)
    assert half_open.admits(1, 0)
    assert half_open.admits(8, SECOND_NS)


def test_a_model_whose_cost_was_not_what_was_measured_never_runs_on_the_loop_again() -> None:
    gate = InlineGate([CurvePoint(1, 1000)], 1, 80_000)
    assert gate.admits(1, 0)
    gate.observe(1, 6_000_000_000, 6_000_000_000, 6_000_000_000)
    assert not gate.admits(1, 1 << 62)


def test_time_in_which_others_ran_hardly_counts() -> None:
    held_up = gate()
    for _ in range(100):
        held_up.observe(1, 5 * LIMIT_NS, LIMIT_NS // 4, 0)
        assert held_up.admits(1, 0)


def test_a_model_that_waits_long_closes_it_all_the_same() -> None:
    waiting = gate()
    waiting.observe(1, 200 * LIMIT_NS, LIMIT_NS // 4, 0)
    assert not waiting.admits(1, 1)
