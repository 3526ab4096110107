"""Quantiles of the last minute: near the true ones, forgotten in time, and the same for one process as for several."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.execution.sliding_quantiles import SlidingQuantiles

NOW_MS = 1_700_000_000_000
NEAR = 0.016


@given(st.integers(0, 10**12))
def test_a_value_is_told_within_its_error(value: int) -> None:
    seen = SlidingQuantiles()
    seen.see(value, NOW_MS)
    assert seen.quantiles((0.5,), NOW_MS) == [pytest.approx(value, rel=NEAR)]


@given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0, 1))
def test_a_quantile_is_that_of_all_values(values: list[int], share: float) -> None:
    seen = SlidingQuantiles()
    for value in values:
        seen.see(value, NOW_MS)
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    assert seen.quantiles((share,), NOW_MS) == [pytest.approx(true, rel=NEAR)]


def test_nothing_seen_is_no_number() -> None:
    assert math.isnan(SlidingQuantiles().quantiles((0.5,), NOW_MS)[0])


@pytest.mark.parametrize(("later_s", "told"), [(0, True), (49, True), (60, False), (3600, False)])
def test_what_is_a_minute_old_is_forgotten(later_s: int, told: bool) -> None:
    seen = SlidingQuantiles()
    seen.see(7, NOW_MS)
    (value,) = seen.quantiles((0.5,), NOW_MS + 1000 * later_s)
    assert (value == 7) is told


def test_nothing_is_kept_of_it_once_others_come() -> None:
    seen = SlidingQuantiles()
    for second in range(600):
        seen.see(second, NOW_MS + 1000 * second)
    assert len(seen.slots) <= 6


def test_those_of_two_processes_are_those_of_one_that_saw_everything() -> None:
    one, other, both = SlidingQuantiles(), SlidingQuantiles(), SlidingQuantiles()
    for value in range(1000):
        (one if value % 3 else other).see(value * 1000, NOW_MS)
        both.see(value * 1000, NOW_MS)
    whole = SlidingQuantiles()
    whole.plus(one)
    whole.plus(other)
    assert whole == both
    assert one != both
