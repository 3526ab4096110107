"""What is done so that a load fits, as a table and as a property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.memory_plan import Evict, EvictionRule, Fits, Hold, Holding, Refuse, Wait, holders, plan, refusal

NOTHING = EvictionRule(idle=False, busy=False)
IDLE = EvictionRule(idle=True, busy=False)
ALL = EvictionRule(idle=True, busy=True)


def idle(name: str, size: int, used_s: float = 0) -> Holding:
    return Holding(name, size, Hold.IDLE, used_s)


def held(size: int, hold: Hold, name: str = "x") -> Holding:
    return Holding(name, size, hold)


@pytest.mark.parametrize(
    ("need", "holdings", "rule", "expected"),
    [
        (10, [], ALL, Fits()),
        (11, [], ALL, Refuse()),
        (4, [idle("a", 6)], NOTHING, Fits()),
        (5, [idle("a", 6)], NOTHING, Refuse()),
        (5, [idle("a", 6)], IDLE, Evict(("a",))),
        # Who was not asked for longest goes first, and no more go than must.
        (5, [idle("a", 5, 2), idle("b", 5, 1)], IDLE, Evict(("b",))),
        (6, [idle("a", 5, 2), idle("b", 5, 1)], IDLE, Evict(("b", "a"))),
        # One that is in use only goes where nobody notices, and after all that are not.
        (5, [held(6, Hold.BUSY, "a")], IDLE, Refuse()),
        (5, [held(6, Hold.BUSY, "a")], ALL, Evict(("a",))),
        (5, [Holding("a", 5, Hold.BUSY, 1), idle("b", 5, 9)], ALL, Evict(("b",))),
        # What leaves by itself is waited for, before anything else has to go.
        (5, [held(6, Hold.LEAVING), idle("a", 4)], IDLE, Wait(certain=True)),
        (9, [held(5, Hold.LEAVING), idle("a", 5)], IDLE, Evict(("a",))),
        # What loads or changes may be unloaded once it serves.
        (5, [held(6, Hold.LOADING)], ALL, Wait(certain=False)),
        (5, [held(6, Hold.CHANGING)], ALL, Wait(certain=False)),
        (5, [held(6, Hold.LOADING)], IDLE, Refuse()),
        # Others stay, and nothing is unloaded in vain.
        (5, [held(6, Hold.PINNED), idle("a", 1)], ALL, Refuse()),
        (5, [held(6, Hold.SENT)], ALL, Refuse()),
        (5, [held(6, Hold.SEQUENCES)], ALL, Refuse()),
        (5, [held(6, Hold.BESIDE)], ALL, Refuse()),
        # A load that turned out to need more than was expected: what it has counts in full.
        (0, [idle("a", 12)], IDLE, Evict(("a",))),
    ],
)
def test_there_is_room_or_it_is_made_or_waited_for_or_not(
    need: int, holdings: list[Holding], rule: EvictionRule, expected: object
) -> None:
    assert plan(need, 10, holdings, rule) == expected


holdings = st.lists(
    st.builds(Holding, st.uuids().map(str), st.integers(0, 10), st.sampled_from(Hold), st.floats(0, 100)), max_size=8
)
rules = st.sampled_from([NOTHING, IDLE, ALL])


@given(st.integers(0, 15), holdings, rules)
def test_who_goes_may_go_and_makes_enough_room_and_no_one_goes_for_nothing(
    need: int, there: list[Holding], rule: EvictionRule
) -> None:
    step = plan(need, 10, there, rule)
    by_name = {each.name: each for each in there}
    if isinstance(step, Evict):
        gone = [by_name[name] for name in step.names]
        assert all(each.hold is Hold.IDLE or (rule.busy and each.hold is Hold.BUSY) for each in gone)
        left = [each for each in there if each not in gone and each.hold is not Hold.LEAVING]
        assert need + sum(each.size_bytes for each in left) <= 10
        without_last = need + sum(each.size_bytes for each in [*left, gone[-1]])
        assert without_last > 10, "the last one had to go"
    if isinstance(step, Fits):
        assert need + sum(each.size_bytes for each in there) <= 10


def test_a_refusal_says_what_is_needed_what_there_may_be_and_who_has_it() -> None:
    there = [Holding(f"m{size}", size << 20, Hold.PINNED) for size in range(1, 11)]
    text = refusal("c", 5 << 20, 60 << 20)
    assert text.startswith("model 'c' needs 5.0 MiB of memory, and the models' memory budget is 60.0 MiB, of which")
    # Who asked may know no other model: the names are for the log.
    assert "m10" not in text
    named = holders(there)
    assert "'m10' 10.0 MiB (pinned), 'm9' 9.0 MiB (pinned)" in named
    assert "2 others 3.0 MiB" in named
    assert "Unload a model, or raise --model-memory-budget." in text
