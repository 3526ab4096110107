"""When a batch is closed, case by case and against Triton's loop, written out once more as it is documented."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.execution.batch_policy import Batching, Take, WaitUntil, decide
from ortolan.repository.model_config import DynamicBatching, ModelConfig


@dataclass(slots=True)
class Request:
    """What the decision has to know of a waiting request."""

    rows: int = 1
    shapes: object = None
    enqueued_ns: int = 0


def waiting(rows: str) -> list[Request]:
    """``1 3 2b`` is three requests: of one row, of three, and of two rows with shapes of their own."""
    return [Request(int(word.rstrip("ab")), word.lstrip("0123456789")) for word in rows.split()]


GREEDY = Batching(8)
PREFERRED = Batching(8, (4, 6))
DELAYED = Batching(8, (), 100)
BOTH = Batching(8, (4,), 100)
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
    delay_ns, age_ns = batching.max_delay_ns, now_ns - waiting[0].enqueued_ns
    if best and not (delay_ns > 0 and age_ns >= delay_ns):
        return Take(best)
    if send_now or pending >= largest_preferred or delay_ns == 0 or age_ns >= delay_ns:
        return Take(taken)
    return WaitUntil(waiting[0].enqueued_ns + delay_ns)


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
    batching = Batching(max_rows, tuple(sorted(size for size in preferred if size <= max_rows)), delay_ns)
    assert decide(waiting, now_ns, batching) == tritons_decision(waiting, now_ns, batching)


@given(st.lists(requests, min_size=1, max_size=12), st.integers(50, 200), st.integers(1, 8), st.booleans())
def test_whatever_is_taken_can_be_one_batch(
    waiting: list[Request], now_ns: int, max_rows: int, with_delay: bool
) -> None:
    decision = decide(waiting, now_ns, Batching(max_rows, (), 30 if with_delay else 0))
    if isinstance(decision, WaitUntil):
        assert now_ns < decision.time_ns <= now_ns + 30
        return
    taken = waiting[: decision.count]
    assert len(taken) == decision.count >= 1
    assert len({request.shapes for request in taken}) == 1
    assert len(taken) == 1 or sum(request.rows for request in taken) <= max_rows


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ModelConfig("m"), Batching()),
        (ModelConfig("m", max_batch_size=8), Batching()),  # rows may be many, requests not
        (ModelConfig("m", dynamic_batching=DynamicBatching()), Batching()),  # no batch dimension
        (ModelConfig("m", max_batch_size=1, dynamic_batching=DynamicBatching()), Batching()),
        (ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching()), Batching(8)),
        (  # the largest batch as the one preferred is what Triton prints where nothing is asked for
            ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching((8,), explicit=False)),
            Batching(8),
        ),
        (
            ModelConfig("m", max_batch_size=8, dynamic_batching=DynamicBatching((4, 2), 5, explicit=True)),
            Batching(8, (2, 4), 5000),
        ),
    ],
)
def test_a_configuration_says_how_to_batch(config: ModelConfig, expected: Batching) -> None:
    assert Batching.of(config) == expected
