"""When a batch is closed, case by case, against Triton's loop written out once more, and what deadlines change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.execution.batch_policy import Batching, Drop, Take, WaitUntil, decide
from ortolan.execution.cost_curve import CostCurve, CurvePoint, measured_sizes
from ortolan.repository.model_config import DynamicBatching, ModelConfig


@dataclass(slots=True)
class Request:
    """What the decision has to know of a waiting request."""

    rows: int = 1
    shapes: object = None
    enqueued_ns: int = 0
    deadline_ns: int = 0


def waiting(rows: str) -> list[Request]:
    """``1 3 2b@70`` is three requests: of one row, of three, and of two with shapes of their own until the time 70."""
    found = []
    for word in rows.split():
        size, _, deadline = word.partition("@")
        found.append(Request(int(size.rstrip("ab")), size.lstrip("0123456789"), deadline_ns=int(deadline or 0)))
    return found


def explicit(max_rows: int, preferred: tuple[int, ...] = (), max_delay_ns: int = 0) -> Batching:
    return Batching(max_rows, preferred, max_delay_ns, explicit=True)


GREEDY = Batching(8)
PREFERRED = explicit(8, (4, 6))
DELAYED = explicit(8, (), 100)
BOTH = explicit(8, (4,), 100)
ALONE = Batching()


@pytest.mark.parametrize(
    ("rows", "age_ns", "batching", "expected"),
    [
        ("1", 0, ALONE, Take(1)),
        ("1 1 1", 0, ALONE, Take(1)),  # without dynamic batching a request is executed by itself
        ("5", 0, ALONE, Take(1)),  # whatever its rows
        ("1", 0, GREEDY, Take(1)),  # a free instance never waits
        ("1 1 1", 0, GREEDY, Take(3)),
        ("1 1 1 1 1 1 1 1 1", 0, GREEDY, Take(8)),  # as far as it fits
        ("4 4 1", 0, GREEDY, Take(2)),
        ("5 4 1", 0, GREEDY, Take(1)),  # in order: the last would fit, but may not overtake
        ("8 1", 0, GREEDY, Take(1)),
        ("9 1", 0, GREEDY, Take(1)),  # larger than a batch may be: alone
        ("1 9", 0, GREEDY, Take(1)),
        ("1a 1a 1b 1a", 0, GREEDY, Take(2)),  # other shapes cannot join, nor be overtaken
        ("1a 1b", 0, GREEDY, Take(1)),
        ("1 1 1", 0, PREFERRED, Take(3)),  # a preferred size cannot be met and nothing allows waiting
        ("1 1 1 1", 0, PREFERRED, Take(4)),
        ("1 1 1 1 1", 0, PREFERRED, Take(4)),  # five could go, four are preferred
        ("1 1 1 1 1 1", 0, PREFERRED, Take(6)),  # the largest that can be met
        ("1 1 1 1 1 1 1 1", 0, PREFERRED, Take(6)),
        ("3 2", 0, PREFERRED, Take(2)),
        ("3 3 1", 0, PREFERRED, Take(2)),
        ("5 2", 0, PREFERRED, Take(1)),  # the next would exceed the largest preferred size, so go before it
        ("7 1", 0, PREFERRED, Take(1)),
        ("5a 1b", 0, PREFERRED, Take(1)),
        ("1 1 1", 99, DELAYED, WaitUntil(100)),  # more may come
        ("1 1 1", 100, DELAYED, Take(3)),  # the oldest has waited long enough
        ("1 1 1", 5000, DELAYED, Take(3)),
        ("4 4", 0, DELAYED, Take(2)),  # full: nothing to wait for
        ("4 5", 0, DELAYED, Take(1)),  # the next does not fit
        ("1a 1b", 0, DELAYED, Take(1)),  # the next has other shapes
        ("9", 0, DELAYED, Take(1)),
        ("1 1", 0, BOTH, WaitUntil(100)),
        ("1 1 1 1", 0, BOTH, Take(4)),
        ("2 1 1 1", 0, BOTH, Take(3)),
        ("1 1 1 1 1", 100, BOTH, Take(5)),  # overdue: all that fit, preferred or not
        ("1 1 1 1 1", 99, BOTH, Take(4)),
        ("3 2", 0, BOTH, Take(1)),  # beyond the largest preferred size
        ("3 2", 100, BOTH, Take(2)),
        ("5", 0, BOTH, Take(1)),
        ("3a 1b", 0, BOTH, Take(1)),
    ],
)
def test_a_batch_is_closed_when_it_should_be(
    rows: str, age_ns: int, batching: Batching, expected: Take | WaitUntil
) -> None:
    assert decide(waiting(rows), age_ns, batching) == expected


def tritons_decision(waiting: Sequence[Request], now_ns: int, batching: Batching) -> Take | WaitUntil:
    """The dynamic batcher's loop with its variables as they are; counts are of requests where Triton's are of rows."""
    largest_preferred = max(batching.preferred_rows, default=batching.max_rows)
    pending, taken, best, send_now = 0, 0, 0, False
    for request in waiting:
        if pending > 0:
            if pending + request.rows > largest_preferred and best == 0:
                best = taken
            if pending + request.rows > batching.max_rows or request.shapes != waiting[0].shapes:
                send_now = True
                break
        pending += request.rows
        taken += 1
        if pending in batching.preferred_rows:
            best = taken
    oldest_ns = min(request.enqueued_ns for request in waiting[:taken])
    delay_ns, age_ns = batching.max_delay_ns, now_ns - oldest_ns
    if best and not (delay_ns > 0 and age_ns >= delay_ns):
        return Take(best)
    if send_now or pending >= largest_preferred or delay_ns == 0 or age_ns >= delay_ns:
        return Take(taken)
    return WaitUntil(oldest_ns + delay_ns)


requests = st.builds(Request, st.sampled_from((1, 1, 2, 3, 4, 9)), st.sampled_from("aaab"), st.integers(0, 50))


@settings(max_examples=400)
@given(
    st.lists(requests, min_size=1, max_size=12),
    st.integers(50, 200),
    st.sampled_from((2, 5, 8)),
    st.sets(st.integers(1, 8), max_size=3),
    st.sampled_from((0, 0, 30, 100)),
)
def test_it_is_tritons_decision(
    waiting: list[Request], now_ns: int, max_rows: int, preferred: set[int], delay_ns: int
) -> None:
    batching = explicit(max_rows, tuple(sorted(size for size in preferred if size <= max_rows)), delay_ns)
    assert decide(waiting, now_ns, batching) == tritons_decision(waiting, now_ns, batching)


@given(st.lists(requests, min_size=1, max_size=12), st.integers(50, 200), st.integers(1, 8), st.integers(0, 3))
def test_whatever_is_taken_can_be_one_batch(waiting: list[Request], now_ns: int, max_rows: int, idle: int) -> None:
    batching = explicit(max_rows, (), 30) if idle == 0 else Batching(max_rows)
    decision = decide(waiting, now_ns, batching, GAINS, max(1, idle))
    assert not isinstance(decision, Drop)  # no one has a deadline
    if isinstance(decision, WaitUntil):
        assert now_ns < decision.time_ns <= now_ns + 30
        return
    taken = waiting[: decision.count]
    assert len(taken) == decision.count >= 1
    assert len({request.shapes for request in taken}) == 1
    assert len(taken) == 1 or sum(request.rows for request in taken) <= max_rows


# -- the automatic rule --------------------------------------------------------------------------------------------


def curve_of(fixed: int, per_row: int) -> CostCurve:
    """A curve of which each run takes ``fixed`` and ``per_row`` for each row, with a spread of a tenth."""
    durations = {size: fixed + per_row * size for size in measured_sizes(16)}
    return CostCurve([CurvePoint(rows, each, each // 10) for rows, each in durations.items()], 16)


GAINS = curve_of(1000, 10)  # 10 rows take 1.1 us
FLAT = curve_of(0, 100)  # a convolution
KNEE_AT_4 = CostCurve([CurvePoint(rows, max(400, 100 * rows)) for rows in measured_sizes(16)], 16)


@pytest.mark.parametrize(
    ("rows", "curve", "idle", "count"),
    [
        ("1 1 1 1 1", GAINS, 1, 5),  # every row pays
        ("1 1 1 1 1", FLAT, 1, 1),  # none does
        ("4 1 1", FLAT, 1, 1),
        ("1 1 1 1 1 1 1 1", KNEE_AT_4, 1, 4),
        ("1 1 1", KNEE_AT_4, 1, 3),
        ("2 2 2 2", KNEE_AT_4, 1, 2),
        ("3 3 3", KNEE_AT_4, 1, 2),  # at 3 rows it is not worth stopping yet
        ("4 4", KNEE_AT_4, 1, 1),
        ("5 1 1", KNEE_AT_4, 1, 1),  # larger than the knee by itself
        ("1 1 1 1 1 1 1 1", GAINS, 2, 4),  # another instance takes the other half
        ("1 1 1 1 1 1 1", GAINS, 2, 4),
        ("1 1 1 1 1 1 1 1", GAINS, 3, 3),
        ("1 1", GAINS, 8, 1),
        ("3 3", GAINS, 2, 1),  # what another could take is not taken along
        ("3 5", GAINS, 2, 1),
        ("5 3", GAINS, 2, 1),
        ("1a 1a 1b 1b", GAINS, 1, 2),
    ],
)
def test_the_batch_is_the_knee_of_what_this_instance_has_to_do(
    rows: str, curve: CostCurve, idle: int, count: int
) -> None:
    assert decide(waiting(rows), 0, Batching(16), curve, idle) == Take(count)


@pytest.mark.parametrize(("backlog", "count"), [(6, 6), (7, 7), (8, 8), (9, 7), (16, 7)])
def test_a_straggler_does_not_wait_for_a_whole_batch(backlog: int, count: int) -> None:
    knee_at_7 = CostCurve([CurvePoint(1, 700), CurvePoint(7, 700), CurvePoint(8, 798), CurvePoint(16, 1600)], 16)
    assert knee_at_7.knee(16) == 7
    assert decide([Request()] * backlog, 0, Batching(16), knee_at_7) == Take(count)


@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from((GAINS, FLAT, KNEE_AT_4)))
def test_a_free_instance_never_waits(backlog: int, idle: int, curve: CostCurve) -> None:
    decision = decide([Request()] * backlog, 0, Batching(16), curve, idle)
    assert isinstance(decision, Take)
    share = -(-min(backlog, 16) // idle)
    assert curve.knee(share) <= decision.count <= share


# -- deadlines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "curve", "decision"),
    [
        # KNEE_AT_4 takes 400 for up to 4 rows. It is 0 o'clock.
        ("1@400 1@900", KNEE_AT_4, Take(2)),  # just in time
        ("1@399 1@900", KNEE_AT_4, Drop(1)),  # just too late
        ("1@399 1@300 1@900", KNEE_AT_4, Drop(2)),
        ("1@900 1@10", KNEE_AT_4, Take(2)),  # the second costs next to nothing now
        ("1 1@10", KNEE_AT_4, Take(2)),  # without a deadline no one is dropped
        ("1 1 1", KNEE_AT_4, Take(3)),
        ("1@10 1 1", KNEE_AT_4, Drop(1)),
        ("1@10 1@20 1b", KNEE_AT_4, Drop(2)),
        ("1@10", KNEE_AT_4, Take(1)),  # the only one is tried, since the curve may be wrong
        ("1@10 1@20", KNEE_AT_4, Drop(1)),
        ("9@10", FLAT, Take(1)),
        # GAINS takes 1.1 times 1000 + 10 a row at the most.
        ("1@1150 1 1 1 1 1 1 1", GAINS, Drop(1)),  # alone it would be in time, but the others are worth more
        ("1@1200 1 1 1 1 1 1 1", GAINS, Take(8)),
        ("1@1150 1@1155", GAINS, Take(2)),
        # FLAT takes 110 a row at the most, and makes no batches.
        ("1@111 1@111 1@111", FLAT, Take(1)),
        ("1@109 1@111 1@111", FLAT, Drop(1)),
        ("4@439 1", FLAT, Drop(1)),  # its own rows count, though the knee is one
        ("4@441 1", FLAT, Take(1)),
        # Nothing was measured: only what is late already is dropped.
        ("1@0 1@1", None, Take(2)),
        ("9@1 1@1", None, Take(1)),
    ],
)
def test_heads_that_cannot_be_answered_in_time_are_dropped_before_anything_is_spent(
    rows: str, curve: CostCurve | None, decision: Take | Drop
) -> None:
    assert decide(waiting(rows), 0, Batching(8), curve) == decision


@pytest.mark.parametrize(
    ("now_ns", "decision"), [(9, Take(2)), (10, Take(2)), (11, Drop(1)), (20, Drop(1)), (21, Drop(2))]
)
def test_without_a_measured_curve_what_is_late_already_is_dropped(now_ns: int, decision: Take | Drop) -> None:
    assert decide(waiting("1@10 1@20"), now_ns, GREEDY) == decision


def test_one_by_one_the_only_request_is_tried_too_but_none_of_several() -> None:
    assert decide(waiting("1@10"), 0, ALONE, FLAT) == Take(1)
    assert decide(waiting("1@10 1@10"), 0, ALONE, FLAT) == Drop(1)


def test_the_window_is_that_of_an_instances_share() -> None:
    head = waiting("1@1140 1 1 1 1 1 1 1")
    assert decide(head, 0, GREEDY, GAINS, 1) == Drop(1)
    assert decide(head, 0, GREEDY, GAINS, 4) == Take(2)


@pytest.mark.parametrize(
    ("rows", "now_ns", "batching", "decision"),
    [
        ("1 1", 0, DELAYED, WaitUntil(100)),
        ("1@900 1", 0, DELAYED, WaitUntil(100)),  # in time though it waits
        ("1@450 1", 0, DELAYED, Take(2)),  # a full batch of 8 takes 800
        ("1@450 1", 0, explicit(4, (), 100), WaitUntil(50)),  # waiting any longer would make it late
        ("1 1@450", 0, explicit(4, (), 100), WaitUntil(50)),
        ("1@450 1", 50, explicit(4, (), 100), Take(2)),
        ("1@450 1", 51, explicit(4, (), 100), Drop(1)),
        ("1@450 1@451", 51, explicit(4, (), 100), Drop(1)),
        ("1@10 1", 0, PREFERRED, Drop(1)),
    ],
)
def test_an_explicit_delay_gives_way_to_deadlines(
    rows: str, now_ns: int, batching: Batching, decision: Take | WaitUntil | Drop
) -> None:
    assert decide(waiting(rows), now_ns, batching, KNEE_AT_4) == decision


timed = st.builds(Request, st.sampled_from((1, 2, 5)), st.sampled_from("aaab"), st.just(0), st.integers(0, 3000))


@given(
    st.lists(timed, min_size=1, max_size=12),
    st.sampled_from((GREEDY, ALONE, DELAYED, BOTH, Batching(16))),
    st.sampled_from((None, GAINS, FLAT, KNEE_AT_4)),
    st.integers(1, 3),
)
def test_only_requests_with_deadlines_are_dropped_and_none_of_a_batch_ahead_of_one_without(
    waiting: list[Request], batching: Batching, curve: CostCurve | None, idle: int
) -> None:
    decision = decide(waiting, 500, batching, curve, idle)
    if isinstance(decision, Drop):
        assert decision.count >= 1
        assert all(request.deadline_ns for request in waiting[: decision.count])
    elif curve is not None and waiting[0].deadline_ns and len(waiting) > 1:
        own_ns = 500 + curve.duration_ns(waiting[0].rows)
        assert own_ns <= waiting[0].deadline_ns  # what is executed could at least be in time by itself


# -- what the configuration says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "unsafe_because", "expected", "reason"),
    [
        (ModelConfig("m"), "", ALONE, "the model has no batch dimension"),
        (ModelConfig("m", dynamic_batching=DynamicBatching()), "", ALONE, "the model has no batch dimension"),
        # Rows may be many, requests not.
        (ModelConfig("m", max_batch_size=8), "", ALONE, "the configuration has no dynamic_batching"),
        (ModelConfig("m", max_batch_size=1, dynamic_batching=DynamicBatching()), "", ALONE, "max_batch_size is 1"),
        (ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching()), "", GREEDY, "automatic"),
        # The largest batch as the one preferred is what Triton prints where nothing is asked for.
        (ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching((8,))), "", GREEDY, "automatic"),
        (
            ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching((4, 2), 5, explicit=True)),
            "",
            explicit(8, (2, 4), 5000),
            "as the configuration says",
        ),
        # A model whose answers depend on their neighbours is batched only if the configuration insists.
        (ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching()), "it mixes", ALONE, "because it mixes"),
        (
            ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching((4,), explicit=True)),
            "it mixes",
            explicit(8, (4,)),
            "as the configuration says",
        ),
    ],
)
def test_a_configuration_says_how_to_batch(
    config: ModelConfig, unsafe_because: str, expected: Batching, reason: str
) -> None:
    batching = Batching.of(config, unsafe_because)
    assert reason in batching.reason
    assert replace(batching, reason="") == replace(expected, reason="")
