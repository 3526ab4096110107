"""Knees against brute force, and how a curve learns: from noise, from one outlier, from a machine that got slower."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.execution.cost_curve import (
    CostCurve,
    CurveBook,
    CurvePoint,
    as_plain,
    from_plain,
    gain,
    measured_sizes,
)


def curve_of(durations: Sequence[int], max_rows: int = 0) -> CostCurve:
    """A curve with these durations at 1, 2, 4 … rows; ``max_rows`` 0 is the last of them."""
    points = [CurvePoint(1 << power, duration) for power, duration in enumerate(durations)]
    return CostCurve(points, max_rows or points[-1].rows)


FLAT = curve_of([100, 200, 400, 800], 32)  # a convolution: each row costs the same
GAINS = curve_of([1000, 1010, 1020, 1040, 1080, 1160])  # nearly all of the cost is fixed
NO_USE_BEYOND_4 = curve_of([100, 110, 120, 240, 480, 960])


@pytest.mark.parametrize(
    ("max_rows", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (32, [1, 2, 4, 8, 16, 32])],
)
def test_powers_of_two_and_the_largest_size_are_measured(max_rows: int, sizes: list[int]) -> None:
    assert measured_sizes(max_rows) == sizes


@pytest.mark.parametrize(
    ("curve", "rows", "duration_ns"),
    [
        (GAINS, 1, 1000),
        (GAINS, 4, 1020),
        (GAINS, 3, 1015),  # between two sizes along a straight line
        (GAINS, 24, 1120),
        (GAINS, 32, 1160),
        (FLAT, 16, 1600),  # beyond the last size each row costs what it cost there
        (FLAT, 32, 3200),
    ],
)
def test_what_a_batch_takes_is_read_off_the_curve(curve: CostCurve, rows: int, duration_ns: float) -> None:
    assert curve.duration_ns(rows) == pytest.approx(duration_ns)


@pytest.mark.parametrize(
    ("curve", "backlog", "knee"),
    [
        (FLAT, 1, 1),
        (FLAT, 32, 1),  # batches gain nothing, so none are made
        (FLAT, 1000, 1),
        (GAINS, 1, 1),
        (GAINS, 7, 7),  # every further row pays
        (GAINS, 32, 32),
        (GAINS, 1000, 32),  # never more than a batch may have
        (GAINS, 0, 1),
        (NO_USE_BEYOND_4, 3, 3),
        (NO_USE_BEYOND_4, 4, 4),
        (NO_USE_BEYOND_4, 32, 4),
        (curve_of([100, 400, 440]), 2, 1),  # two at a time are worse than one …
        (curve_of([100, 400, 440]), 3, 1),
        (curve_of([100, 400, 300]), 4, 4),  # … and four better
        (curve_of([100, 199, 398]), 4, 1),  # half a percent is not worth the wait
        (curve_of([100, 197, 394]), 4, 2),
        (CostCurve([CurvePoint(1, 100)], 64), 64, 1),  # nothing but one row was measured
    ],
)
def test_the_knee_of_a_backlog(curve: CostCurve, backlog: int, knee: int) -> None:
    assert curve.knee(backlog) == knee


@st.composite
def curves(draw: st.DrawFn) -> tuple[CostCurve, int]:
    """A curve that may rise and fall, and its largest batch; the measurement may have ended early."""
    max_rows = draw(st.integers(1, 200))
    sizes = measured_sizes(max_rows)
    sizes = sizes[: draw(st.integers(1, len(sizes)))]
    per_row = st.integers(50, 150) if draw(st.booleans()) else st.integers(1, 10_000)
    points = [CurvePoint(size, size * draw(per_row)) for size in sizes]
    return CostCurve(points, max_rows), max_rows


@given(curves(), st.integers(1, 250))
def test_the_knee_is_the_smallest_batch_within_one_percent_of_the_best(
    curve_and_size: tuple[CostCurve, int], backlog: int
) -> None:
    curve, max_rows = curve_and_size
    rates = {rows: rows / curve.duration_ns(rows) for rows in range(1, min(backlog, max_rows) + 1)}
    enough = 0.99 * max(rates.values())
    knee = curve.knee(backlog)
    # Rates that differ in the last bit may be told apart or not.
    assert rates[knee] >= enough * (1 - 1e-12)
    assert all(rates[rows] < enough * (1 + 1e-12) for rows in range(1, knee))


def test_knees_of_very_large_batches_are_right() -> None:
    sizes = measured_sizes(65_536)
    noise = np.random.default_rng(0)
    durations = [int((3_000_000 + 350 * size) * noise.uniform(0.8, 1.25)) for size in sizes]
    curve = CostCurve([CurvePoint(*each) for each in zip(sizes, durations, strict=True)], 65_536)
    rows = np.arange(1, 65_537)
    best = np.maximum.accumulate(rows / np.interp(rows, sizes, durations))
    expected = 1 + np.searchsorted(best, 0.99 * best)
    backlogs = [*range(1, 300), *range(300, 65_536, 97), 65_536]
    assert [curve.knee(backlog) for backlog in backlogs] == [expected[backlog - 1] for backlog in backlogs]


def test_the_best_rate_is_that_of_the_best_size() -> None:
    assert curve_of([1000, 1000, 4000]).best_rows_per_s(4) == pytest.approx(2e6)


# -- learning ------------------------------------------------------------------------------------------------------

SIZES = (1, 2, 4, 8, 16, 32)


def durations(curve: CostCurve) -> list[float]:
    return [curve.duration_ns(size) for size in SIZES]


def serve(
    curve: CostCurve, executions: int, factor: float = 1.0, noise: float = 0.05, sizes: Sequence[int] = SIZES
) -> None:
    """Executions on a machine ``factor`` times as slow as that on which ``GAINS`` was measured."""
    source = random.Random(0)
    for _ in range(executions):
        size = source.choice(sizes)
        curve.observe(size, int(1000 * factor * GAINS.duration_ns(size) * source.gauss(1, noise)))


def gains() -> CostCurve:
    return CostCurve([CurvePoint(point.rows, 1000 * point.duration_ns) for point in GAINS.points], 32)


@pytest.mark.parametrize("outlier", [10, 1000, 10**9])
def test_one_run_that_was_held_up_hardly_moves_the_curve(outlier: int) -> None:
    curve = gains()
    before = durations(curve)
    curve.observe(4, int(before[2] * outlier))
    assert durations(curve) == pytest.approx(before, rel=0.015)
    assert curve.knee(32) == 32
    assert curve.cautious_duration_ns(4) < 1.05 * before[2]


def test_noise_moves_neither_the_curve_nor_its_knees() -> None:
    curve, flat = gains(), CostCurve(FLAT.points, 8)
    serve(curve, 2000)
    source = random.Random(1)
    for _ in range(2000):
        size = source.choice((1, 2, 4, 8))
        flat.observe(size, max(1, int(100 * size * source.gauss(1, 0.05))))
    assert durations(curve) == pytest.approx(durations(gains()), rel=0.03)
    assert curve.knee(32) >= 31
    assert flat.knee(8) == 1


@pytest.mark.parametrize("factor", [0.3, 2, 10])
def test_a_machine_that_is_slower_for_good_is_believed(factor: float) -> None:
    curve = gains()
    serve(curve, 600, factor)
    assert durations(curve) == pytest.approx([factor * each for each in durations(gains())], rel=0.1)


@pytest.mark.parametrize("factor", [0.5, 3])
def test_what_was_not_executed_for_long_stays_comparable(factor: float) -> None:
    curve = CostCurve([CurvePoint(point.rows, 1000 * point.duration_ns) for point in FLAT.points], 8)
    for _ in range(500):
        curve.observe(1, int(100_000 * factor))
    assert curve.duration_ns(1) == pytest.approx(100_000 * factor, rel=0.05)
    assert curve.duration_ns(8) == pytest.approx(800_000 * factor, rel=0.3)


def test_sizes_between_two_measured_ones_do_not_drive_the_curve_away() -> None:
    curve = gains()
    for _ in range(3000):
        curve.observe(17, 1_300_000)  # it was expected to take 1.085 ms
        curve.observe(16, 1_080_000)
    assert curve.duration_ns(32) < 4 * 1_160_000
    assert curve.duration_ns(16) == pytest.approx(1_080_000, rel=0.12)


def test_one_execution_in_five_exceeds_the_cautious_duration() -> None:
    curve = gains()
    serve(curve, 1000, noise=0.1)
    source = random.Random(5)
    exceeded = 0
    for _ in range(2000):
        size = source.choice(SIZES)
        took = int(1000 * GAINS.duration_ns(size) * source.gauss(1, 0.1))
        exceeded += took > curve.cautious_duration_ns(size)
        curve.observe(size, took)
    assert 0.15 < exceeded / 2000 < 0.25


@given(curves(), st.lists(st.tuples(st.integers(1, 250), st.integers(-(10**18), 10**18)), max_size=60))
def test_nothing_that_is_observed_breaks_a_curve(
    curve_and_size: tuple[CostCurve, int], observations: list[tuple[int, int]]
) -> None:
    curve, max_rows = curve_and_size
    for rows, duration_ns in observations:
        curve.observe(rows, duration_ns)
    for rows in (1, max_rows):
        assert 0 < curve.duration_ns(rows) <= curve.cautious_duration_ns(rows) < float("inf")
        assert 1 <= curve.knee(rows) <= rows
    assert curve.best_rows_per_s(4) > 0


# -- curves by size of the rows ------------------------------------------------------------------------------------


def test_rows_that_do_not_vary_have_one_curve() -> None:
    book = CurveBook(GAINS.points, 32, rows_vary=False)
    book.observe(1_000_000, 1, 2000)
    assert book.curve(1_000_000) is book.curve(4) is book.base


def test_longer_rows_have_a_curve_of_their_own_which_begins_as_a_multiple_of_the_first() -> None:
    book = CurveBook(GAINS.points, 32, rows_vary=True)
    assert book.curve(4000) is book.base
    book.observe(4000, 2, 10_100)
    assert book.curve(4000).duration_ns(32) == pytest.approx(11_600)
    assert book.curve(3000) is book.curve(4000)  # of the same class
    assert book.curve(8).duration_ns(1) == 1000


def test_a_slow_first_execution_of_a_class_is_forgotten() -> None:
    book = CurveBook(GAINS.points, 32, rows_vary=True)
    for factor in (500, 7, 6, 5, 6, 5, 5):
        book.observe(4000, 1, 1000 * factor)
    assert book.curve(4000).duration_ns(1) == pytest.approx(5000, rel=0.01)


def test_the_curve_of_a_class_is_refined() -> None:
    book = CurveBook(GAINS.points, 32, rows_vary=True)
    for _ in range(300):
        book.observe(4000, 1, 5000)
    for _ in range(300):
        book.observe(4000, 1, 10_000)
    assert book.curve(4000).duration_ns(1) == pytest.approx(10_000, rel=0.05)


# -- as plain data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "times"), [(FLAT, 1.0), (NO_USE_BEYOND_4, 100 / 30), (curve_of([100, 50]), 4.0), (curve_of([1, 9]), 1.0)]
)
def test_the_gain_is_that_of_the_best_size(curve: CostCurve, times: float) -> None:
    assert gain(curve.points) == pytest.approx(times)


def test_points_survive_as_plain_data() -> None:
    points = [CurvePoint(1, 100, 7), CurvePoint(2, 150, 0), CurvePoint(3, 151, 9)]
    assert from_plain(as_plain(points)) == points
    assert CostCurve(points, 3).points == points


@pytest.mark.parametrize(
    "plain",
    [
        [],
        [[2, 100, 0]],  # does not begin at one row
        [[1, 0, 0]],
        [[1, -5, 0]],
        [[1, 100, -1]],
        [[1, 100, 0], [1, 120, 0]],  # does not rise
        [[1, 100, 0], [4, 120, 0], [2, 110, 0]],
        [[1, float("nan"), 0]],
        [[1, 100.5, 0]],
        [[True, 100, 0]],
        [["1", "100", "0"]],
        [[1]],
        [[1, 2, 3, 4]],
        [5],
        [None],
    ],
)
def test_what_cannot_be_a_curve_is_refused(plain: list[list[int]]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_plain(plain)
