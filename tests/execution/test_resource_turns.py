"""Who may run next where instances share resources: limits, order and weights, as tables and as a state machine."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ortolan.errors import InvalidArgument
from ortolan.execution.resource_turns import (
    EVERYWHERE,
    DeclaredResource,
    ResourceKey,
    ResourceTurn,
    ResourceTurns,
    ResourceUser,
)

R, S = (0, "R"), (0, "S")


def user(name: str, needs: Mapping[ResourceKey, int], priority: int = 1) -> ResourceUser:
    return ResourceUser(name, needs, priority)


def turns_of(*users: ResourceUser, declared: Sequence[DeclaredResource] = ()) -> ResourceTurns:
    turns = ResourceTurns(declared)
    turns.admit(users)
    return turns


def names(turns: Sequence[ResourceTurn]) -> list[str]:
    return [turn.user.name for turn in turns]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_without_declarations_there_is_as_much_as_the_neediest_asks_for() -> None:
    large, small, other = user("large", {R: 4}), user("small", {R: 2}), user("other", {R: 3, S: 1})
    turns = turns_of(large, small, other)
    for each in (small, small, other):
        turns.ask(each)
    assert names(turns.let_in()) == ["small", "small"]


@pytest.mark.parametrize(
    ("declared", "needs"),
    [
        ([DeclaredResource("R", 4)], {R: 4, (1, "R"): 4}),  # on each device
        ([DeclaredResource("R", 4, 1)], {(1, "R"): 4}),
        ([DeclaredResource("R", 1), DeclaredResource("R", 4, 0)], {R: 4, (1, "R"): 1}),  # the larger holds
        ([DeclaredResource("R", 4, 1)], {(EVERYWHERE, "R"): 4}),  # wherever it was declared
        ([DeclaredResource("S", 1)], {}),
    ],
)
def test_what_is_declared_is_enough(declared: Sequence[DeclaredResource], needs: Mapping[ResourceKey, int]) -> None:
    turns = turns_of(user("m", needs), declared=declared)
    turns.ask(next(iter(turns._users)))
    assert len(turns.let_in()) == 1


@pytest.mark.parametrize(
    ("declared", "needs", "said"),
    [
        ([DeclaredResource("R", 3)], {R: 4}, 'Resource count for "R" is limited to 3 on device 0 which will prevent'),
        ([DeclaredResource("R", 4, 1)], {R: 4}, "limited to 0 on device 0"),
        (
            [DeclaredResource("R", 9)],
            {S: 1},
            'Resource count for "S" is limited to 0',
        ),  # only what is declared is there
        ([DeclaredResource("R", 3)], {(EVERYWHERE, "R"): 4}, "limited to 3 which will prevent"),
        ([DeclaredResource("R", 3)], {R: 4}, "the minimum required count is 4. Start the server with --rate-limit"),
    ],
)
def test_an_instance_that_could_never_run_is_refused(
    declared: Sequence[DeclaredResource], needs: Mapping[ResourceKey, int], said: str
) -> None:
    turns = ResourceTurns(declared)
    with pytest.raises(InvalidArgument) as refused:
        turns.admit([user("m", needs)])
    assert said in refused.value.message
    turns.admit([user("n", {})])  # who was refused is not kept in mind


def test_a_resource_is_shared_by_all_devices_or_by_none() -> None:
    turns = turns_of(user("m", {R: 1}))
    with pytest.raises(InvalidArgument, match='Resource "R" is present as both global and device-specific resource'):
        turns.admit([user("n", {(EVERYWHERE, "R"): 1})])


def test_when_the_neediest_goes_there_is_less() -> None:
    large, small = user("large", {R: 4}), user("small", {R: 2})
    turns = turns_of(large, small)
    turns.dismiss([large])
    turns.ask(small)
    turns.ask(small)
    assert len(turns.let_in()) == 1


def test_whoever_is_dismissed_leaves_nothing_behind() -> None:
    gone, other = user("gone", {R: 1}), user("other", {R: 1})
    turns = turns_of(gone, other)
    held, waits = turns.ask(gone), turns.ask(gone)
    turns.let_in()
    turns.ask(other)
    assert turns.dismiss([gone]) == [held, waits]
    assert (held.over, waits.over) == (True, True)
    turns.give_back(held, ran=True)  # late, and without effect
    assert names(turns.let_in()) == ["other"]


# -- order -------------------------------------------------------------------------------------------------------------


def run(turns: ResourceTurns, users: Sequence[ResourceUser], executions: int) -> Counter[str]:
    """``users`` that always have more to do, one run at a time each, until so many have run."""
    counts: Counter[str] = Counter()
    asked = [turns.ask(each) for each in users]
    running = turns.let_in()
    for _ in range(executions):
        turn = running.pop(0)
        counts[turn.user.name] += 1
        turns.give_back(turn, ran=True)
        asked.append(turns.ask(turn.user))
        running += turns.let_in()
    for turn in asked:
        turns.give_back(turn, ran=False)
    return counts


@pytest.mark.parametrize(
    ("priorities", "shares"), [((1, 1), (60, 60)), ((1, 2), (80, 40)), ((1, 3), (90, 30)), ((2, 4), (80, 40))]
)
def test_executions_are_shared_by_priority(priorities: tuple[int, int], shares: tuple[int, int]) -> None:
    users = [user(name, {R: 1}, priority) for name, priority in zip("ab", priorities, strict=True)]
    counts = run(turns_of(*users), users, 120)
    assert counts["a"] == pytest.approx(shares[0], abs=2)
    assert counts["b"] == pytest.approx(shares[1], abs=2)


def test_one_that_is_new_or_was_idle_neither_owes_nor_hoards() -> None:
    old, new = user("old", {R: 1}), user("new", {R: 1})
    turns = turns_of(old)
    run(turns, [old], 1000)
    turns.admit([new])
    counts = run(turns, [old, new], 40)
    assert counts["new"] == pytest.approx(20, abs=2)


def test_a_turn_in_which_nothing_ran_does_not_count() -> None:
    one = user("one", {R: 1})
    turns = turns_of(one)
    turn = turns.ask(one)
    turns.let_in()
    turns.give_back(turn, ran=False)
    assert one.used == 0


def test_no_one_takes_what_one_before_it_waits_for_and_others_pass() -> None:
    holder, large, small, other = user("h", {R: 1}), user("l", {R: 2}), user("s", {R: 1}), user("o", {S: 1})
    turns = turns_of(holder, large, small, other)
    held = turns.ask(holder)
    assert turns.let_in() == [held]
    for each in (large, small, other):
        turns.ask(each)
    assert names(turns.let_in()) == ["o"]
    turns.give_back(held, ran=True)
    assert names(turns.let_in()) == ["l"]


class AnyOrderOfTurns(RuleBasedStateMachine):
    """Asking, giving back and dismissing in any order."""

    @initialize(needs=st.lists(st.dictionaries(st.sampled_from([R, S]), st.integers(0, 3)), min_size=1, max_size=4))
    def begin(self, needs: list[dict[ResourceKey, int]]) -> None:
        self.users = [user(str(index), each, 1 + index % 3) for index, each in enumerate(needs)]
        self.turns = turns_of(*self.users)
        self.asked: list[ResourceTurn] = []

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        if self.users:
            self.asked.append(self.turns.ask(data.draw(st.sampled_from(self.users))))
            self.turns.let_in()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), ran=st.booleans())
    def give_back(self, data: st.DataObject, ran: bool) -> None:
        turn = data.draw(st.sampled_from(self.asked))
        self.asked.remove(turn)
        self.turns.give_back(turn, ran)
        self.turns.let_in()

    @precondition(lambda self: self.users)
    @rule()
    def dismiss(self) -> None:
        gone = self.users.pop()
        self.turns.dismiss([gone])
        self.asked = [turn for turn in self.asked if turn.user is not gone]
        self.turns.let_in()

    @invariant()
    def nothing_is_held_twice_and_the_first_in_line_waits_for_something(self) -> None:
        for key in (R, S):
            most = max((each.needs.get(key, 0) for each in self.users), default=0)
            held = [turn for turn in self.asked if turn.held]
            # What was let in before the neediest went may still run.
            taken = sum(turn.user.needs.get(key, 0) for turn in held)
            assert taken <= max(most, 3)
        waiting = [turn for turn in self.asked if not turn.held]
        assert self.turns.waiting == len(waiting)
        if waiting:
            assert any(turn.held for turn in self.asked)

    def teardown(self) -> None:
        """However it went, everything comes back, and everyone gets a turn."""
        while self.asked:
            held = next(turn for turn in self.asked if turn.held)
            self.asked.remove(held)
            self.turns.give_back(held, ran=True)
            self.turns.let_in()
        assert not any(self.turns._taken.values())


TestAnyOrderOfTurns = AnyOrderOfTurns.TestCase
TestAnyOrderOfTurns.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
