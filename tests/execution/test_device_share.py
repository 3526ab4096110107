"""Fair turns: the account by simulation and as a state machine, then with real threads and a run that hangs."""

import heapq
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ortolan.execution.device_share import DeviceShare, DeviceShares, DeviceUser, Turn, Turns

BOUND_NS = 1000
FOREVER_S = 60.0


# -- the account ---------------------------------------------------------------------------------------------------


class Device:
    """Models that always have so many batches ready, on one device, in simulated time; runs never hang."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places, longest_hold_ns=1 << 60)
        self.now_ns = 0
        self.running: list[tuple[int, int, Turn]] = []
        self.used: Counter[str] = Counter()
        self.longest_wait: Counter[str] = Counter()
        self.asked: dict[Turn, int] = {}

    def serve(self, until_ns: int, users: Mapping[DeviceUser, tuple[int, int]]) -> None:
        """``users``: how many batches of each are ready at any time, and what each takes."""
        for user, (ready, _) in users.items():
            for _ in range(ready - user.active):
                self.ask(user, users)
        while self.now_ns < until_ns and self.running:
            self.now_ns, _, turn = heapq.heappop(self.running)
            took = self.now_ns - turn.since_ns
            self.used[turn.user.name] += took
            for following in self.turns.give_back(turn, took, self.now_ns):
                self.start(following, users)
            if turn.user in users:
                self.ask(turn.user, users)

    def ask(self, user: DeviceUser, users: Mapping[DeviceUser, tuple[int, int]]) -> None:
        turn = self.turns.ask(user, self.now_ns)
        self.asked[turn] = self.now_ns
        if turn.since_ns >= 0:
            self.start(turn, users)

    def start(self, turn: Turn, users: Mapping[DeviceUser, tuple[int, int]]) -> None:
        waited = turn.since_ns - self.asked.pop(turn)
        self.longest_wait[turn.user.name] = max(waited, self.longest_wait[turn.user.name])
        heapq.heappush(self.running, (turn.since_ns + users.get(turn.user, (1, 10))[1], turn.order, turn))


@pytest.mark.parametrize("places", [1, 2, 4])
def test_a_light_user_waits_for_no_more_than_one_run_of_a_heavy_one(places: int) -> None:
    device, heavy, light = Device(places), DeviceUser("heavy"), DeviceUser("light")
    device.serve(10_000, {heavy: (16, 50), light: (1, 5)})
    assert device.longest_wait["light"] <= 50
    assert device.used["heavy"] > 0.8 * places * 10_000


@pytest.mark.parametrize(("long", "short"), [(50, 50), (50, 5), (100, 1)])
def test_two_that_are_always_ready_get_half_of_the_device_each(long: int, short: int) -> None:
    device, one, other = Device(1), DeviceUser("one"), DeviceUser("other")
    device.serve(20_000, {one: (8, long), other: (2, short)})
    assert device.used["one"] == pytest.approx(10_000, rel=0.05)
    assert device.used["other"] == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("ready", [1, 8])
def test_one_that_had_the_device_to_itself_for_long_owes_nothing(ready: int) -> None:
    device, old, new = Device(1), DeviceUser("old"), DeviceUser("new")
    device.serve(100_000, {old: (ready, 10)})
    before = device.used["old"]
    device.serve(102_000, {old: (8, 10), new: (8, 10)})
    assert device.used["old"] - before == pytest.approx(1000, rel=0.1)


def test_one_that_was_idle_for_long_hoards_nothing() -> None:
    device, busy, idle = Device(1), DeviceUser("busy"), DeviceUser("idle")
    device.serve(1_000, {idle: (1, 10), busy: (1, 10)})
    device.serve(50_000, {busy: (4, 10)})
    before = device.used["busy"]
    device.serve(52_000, {busy: (4, 10), idle: (4, 10)})
    assert device.used["busy"] - before == pytest.approx(1000, rel=0.1)


def test_a_place_that_is_held_for_too_long_is_lost_until_it_comes_back() -> None:
    turns, user = Turns(1, BOUND_NS), DeviceUser("m")
    hung = turns.ask(user, 0)
    second, third = turns.ask(user, 10), turns.ask(user, 20)
    assert turns.look(BOUND_NS - 1) == []
    assert turns.next_look_ns() == BOUND_NS
    assert turns.look(BOUND_NS) == [second]
    assert turns.give_back(second, 5, BOUND_NS + 5) == [third]
    assert turns.give_back(hung, BOUND_NS + 6, BOUND_NS + 6) == []  # its place was given away already
    fourth = turns.ask(user, BOUND_NS + 7)
    assert fourth.since_ns < 0
    assert turns.give_back(third, 5, BOUND_NS + 8) == [fourth]


class AnyOrderOfTurns(RuleBasedStateMachine):
    """Asking, giving back and looking in any order, with a clock that may pass the bound."""

    @initialize(places=st.integers(1, 3))
    def begin(self, places: int) -> None:
        self.places = places
        self.turns = Turns(places, BOUND_NS)
        self.users = [DeviceUser(str(number)) for number in range(3)]
        self.now_ns = 0
        self.asked: list[Turn] = []

    def waiting(self) -> list[Turn]:
        return [turn for turn in self.asked if turn.since_ns < 0]

    def held(self) -> list[Turn]:
        return [turn for turn in self.asked if turn.since_ns >= 0]

    @rule(user=st.integers(0, 2), later=st.integers(0, 400))
    def ask(self, user: int, later: int) -> None:
        self.now_ns += later
        self.asked.append(self.turns.ask(self.users[user], self.now_ns))

    @precondition(lambda self: self.held())
    @rule(data=st.data(), later=st.integers(0, 400))
    def give_back(self, data: st.DataObject, later: int) -> None:
        self.now_ns += later
        turn = data.draw(st.sampled_from(self.held()))
        before = self.waiting()
        self.asked.remove(turn)
        let_in = self.turns.give_back(turn, self.now_ns - turn.since_ns, self.now_ns)
        self.check_order(before, let_in)

    @rule(later=st.integers(0, 3 * BOUND_NS))
    def look(self, later: int) -> None:
        self.now_ns += later
        before = self.waiting()
        self.check_order(before, self.turns.look(self.now_ns))
        if self.waiting():
            assert self.turns.next_look_ns() > self.now_ns

    def check_order(self, before: list[Turn], let_in: list[Turn]) -> None:
        """Those that used least went first, and the turns of one user in their order."""
        assert let_in == sorted(before, key=lambda turn: (turn.user.used_ns, turn.order))[: len(let_in)]

    @invariant()
    def no_place_is_idle_or_held_twice(self) -> None:
        held = sum(not turn.lost for turn in self.held())
        assert held <= self.places
        assert held == self.places or not self.waiting()
        for user in self.users:
            assert user.active == sum(turn.user is user for turn in self.asked)

    def teardown(self) -> None:
        """However it went, all places come back in the end."""
        while held := self.held():
            self.asked.remove(held[0])
            self.turns.give_back(held[0], 1, self.now_ns)
        assert not self.waiting()
        user = self.users[0]
        assert sum(self.turns.ask(user, self.now_ns).since_ns >= 0 for _ in range(self.places + 2)) == self.places


TestAnyOrderOfTurns = AnyOrderOfTurns.TestCase
TestAnyOrderOfTurns.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- with threads --------------------------------------------------------------------------------------------------


def in_thread(share: DeviceShare, user: DeviceUser, entered: threading.Event, go: threading.Event) -> threading.Thread:
    """A thread that enters, says so, and leaves when told to."""

    def run() -> None:
        share.enter(user)
        entered.set()
        assert go.wait(FOREVER_S)
        share.leave(user, 1_000_000)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def until_waiting(share: DeviceShare, count: int) -> None:
    end = time.monotonic() + FOREVER_S
    while share.waiting != count:
        assert time.monotonic() < end
        os.sched_yield()


def test_a_free_place_is_taken_at_once_and_a_taken_one_is_waited_for() -> None:
    share, user = DeviceShare(1, FOREVER_S), DeviceUser("m")
    share.enter(user)
    entered, go = threading.Event(), threading.Event()
    thread = in_thread(share, user, entered, go)
    until_waiting(share, 1)
    assert not entered.is_set()
    share.leave(user, 1000)
    assert entered.wait(FOREVER_S)
    go.set()
    thread.join(FOREVER_S)
    assert user.active == share.waiting == 0
    assert user.used_ns == 1_001_000


def test_the_model_that_used_least_is_next() -> None:
    share, heavy, light = DeviceShare(1, FOREVER_S), DeviceUser("heavy"), DeviceUser("light")
    share.enter(heavy)
    heavy_entered, light_entered, go = threading.Event(), threading.Event(), threading.Event()
    threads = [in_thread(share, heavy, heavy_entered, go)]
    until_waiting(share, 1)
    threads.append(in_thread(share, light, light_entered, go))
    until_waiting(share, 2)
    share.leave(heavy, 50_000_000)
    assert light_entered.wait(FOREVER_S)
    assert not heavy_entered.is_set()
    go.set()
    for thread in threads:
        thread.join(FOREVER_S)
    assert heavy_entered.is_set()


def test_a_run_that_hangs_holds_up_the_others_once_and_not_for_longer_than_the_bound() -> None:
    bound_s = 0.05
    share, hung, others = DeviceShare(1, bound_s), DeviceUser("hung"), DeviceUser("others")
    go = threading.Event()
    entered = threading.Event()
    hanging = in_thread(share, hung, entered, go)
    assert entered.wait(FOREVER_S)
    start = time.monotonic()
    share.enter(others)
    first_s = time.monotonic() - start
    share.leave(others, 1000)
    start = time.monotonic()
    for _ in range(20):
        share.enter(others)
        share.leave(others, 1000)
    assert first_s < bound_s + 1
    assert time.monotonic() - start < 20 * bound_s  # the lost place is theirs from now on
    go.set()
    hanging.join(FOREVER_S)


@pytest.mark.parametrize(("places", "bound_s"), [(1, FOREVER_S), (2, FOREVER_S), (2, 0.0001)])
def test_many_threads_all_get_their_turns(places: int, bound_s: float) -> None:
    share = DeviceShare(places, bound_s)
    users = [DeviceUser(str(number)) for number in range(3)]
    inside, most, lock = 0, 0, threading.Lock()

    def run(user: DeviceUser) -> None:
        nonlocal inside, most
        for _ in range(100):
            share.enter(user)
            with lock:
                inside += 1
                most = max(most, inside)
            os.sched_yield()
            with lock:
                inside -= 1
            share.leave(user, 1000)

    threads = [threading.Thread(target=run, args=(users[number % 3],), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(FOREVER_S)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= places or bound_s < 1
    assert share.waiting == 0
    assert all(user.active == 0 for user in users)
    assert sum(user.used_ns for user in users) >= 6 * 100 * 1000


def test_each_device_has_one_share() -> None:
    shares = DeviceShares(cpu_places=4)
    assert shares.of("CPU") is shares.of("CPU")
    assert shares.of("GPU 0") is not shares.of("GPU 1")
