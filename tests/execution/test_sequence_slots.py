"""Which slot a sequence has: single rules, and any order of events against a model that is as simple as can be."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import SequenceId, SequenceTerms
from ortolan.execution.sequence_slots import LiveSequence, SequenceSlots

LANES, ROWS = 2, 2
IDLE_NS = 10


@dataclass(eq=False)
class Request:
    terms: SequenceTerms
    size_bytes: int = 3


Slots = SequenceSlots[Request]


def request(sequence_id: SequenceId, flags: str = "") -> Request:
    """``flags``: s for the first of its sequence, e for the last."""
    return Request(SequenceTerms(sequence_id, "s" in flags, "e" in flags))


def slots_of(*started: SequenceId, lanes: int = LANES, rows: int = ROWS) -> Slots:
    slots: Slots = SequenceSlots("m", lanes, rows, IDLE_NS)
    for sequence_id in started:
        slots.admit(request(sequence_id, "s"))
    return slots


def run_next(slots: Slots, sequence: LiveSequence[Request], now_ns: int = 0) -> Request:
    found = slots.take(sequence)
    slots.done(sequence, now_ns)
    return found


def ids(slots: Slots) -> list[list[SequenceId]]:
    """The ids in each lane, by row."""
    return [[slots.sequences(lane)[row].id for row in sorted(slots.sequences(lane))] for lane in range(LANES)]


def test_instances_fill_evenly_from_the_lowest_row_up() -> None:
    assert ids(slots_of(1, 2, 3, 4)) == [[1, 3], [2, 4]]


def test_whoever_finds_no_slot_waits_and_gets_the_first_that_is_free() -> None:
    slots = slots_of(1, 2, 3, 4, 5, 6)
    assert (slots.backlog, slots.waiting) == (2, 6)
    fourth = slots.admit(request(4, "e"))
    run_next(slots, fourth)
    assert ids(slots) == [[1, 3], [2, 4]]
    run_next(slots, fourth)
    assert ids(slots) == [[1, 3], [2, 5]]
    assert slots.backlog == 1


def test_the_lowest_slot_of_all_that_are_free_is_taken_first() -> None:
    slots = slots_of(1, 2, 3, 4)
    for sequence_id in (3, 2):
        sequence = slots.admit(request(sequence_id, "e"))
        run_next(slots, sequence)
        run_next(slots, sequence)
    slots.admit(request(5, "s"))
    slots.admit(request(6, "s"))
    assert ids(slots) == [[1, 6], [5, 4]]


@pytest.mark.parametrize("ended", [False, True])
def test_a_sequence_that_has_not_started_is_refused(ended: bool) -> None:
    slots = slots_of(8)
    if ended:
        slots.admit(request(7, "se"))
    with pytest.raises(InvalidArgument) as refused:
        slots.admit(request(7))
    assert refused.value.message == (
        "inference request for sequence 7 to model 'm' must specify the START flag on the first request of the sequence"
    )


def test_the_id_of_a_sequence_is_a_number_or_a_text_and_these_differ() -> None:
    slots = slots_of(7)
    with pytest.raises(InvalidArgument):
        slots.admit(request("7"))


def test_an_id_in_a_message_ends_no_line() -> None:
    with pytest.raises(InvalidArgument, match=r"sequence a\\nb to"):
        slots_of().admit(request("a\nb"))


def test_a_start_of_a_live_sequence_keeps_its_slot_and_its_place() -> None:
    slots = slots_of(1, 2)
    assert slots.admit(request(1, "s")) is slots.sequences(0)[0]
    assert slots.waiting == 3


def test_the_same_id_may_start_again_while_its_last_sequence_still_waits() -> None:
    slots = slots_of()
    first = slots.admit(request(1, "se"))
    again = slots.admit(request(1, "s"))
    assert first is not again
    assert ids(slots) == [[1], [1]]


def test_an_idle_sequence_loses_its_slot() -> None:
    slots = slots_of(1, 2, 3, 4, 5)
    assert slots.next_expiry_ns is None
    run_next(slots, slots.sequences(0)[0], 3)
    run_next(slots, slots.sequences(1)[0], 5)
    assert slots.next_expiry_ns == 13
    assert slots.reclaim(12) == []
    assert [sequence.id for sequence in slots.reclaim(14)] == [1]
    assert ids(slots) == [[5, 3], [2, 4]]
    assert not slots.is_live(1)
    with pytest.raises(InvalidArgument):
        slots.admit(request(1))


@pytest.mark.parametrize(
    ("flags", "running", "lost", "behind", "left", "goes_on"),
    [
        (["s", "", ""], False, 0, [1, 2], [], False),
        (["s", "", ""], False, 1, [2], [0], False),
        (["s", "", ""], False, 2, [], [0, 1], False),
        (["s", "", "e"], False, 1, [2], [0], False),
        # What was taken is not in the line any more: all that waits is behind it.
        (["s", "", ""], True, 0, [1, 2], [], False),
        (["s", "", ""], True, 1, [2], [], False),
        # A new start does not need what was lost.
        (["s", "", "s", ""], False, 1, [], [0, 2, 3], True),
        (["s", "", "", "s", ""], False, 1, [2], [0, 3, 4], True),
        (["s", "s"], True, 0, [], [1], True),
    ],
)
def test_a_sequence_that_loses_a_request_ends_with_those_before_it(
    flags: list[str], running: bool, lost: int, behind: list[int], left: list[int], goes_on: bool
) -> None:
    slots = slots_of()
    requests = [request(1, each) for each in flags]
    sequence, *_ = [slots.admit(each) for each in requests]
    if running:
        assert slots.take(sequence) is requests[0]
    assert slots.lose(sequence, requests[lost], 0) == [requests[index] for index in behind]
    assert list(sequence.waiting) == [requests[index] for index in left]
    assert slots.waiting == len(left)
    assert slots.is_live(1) is goes_on


def test_what_is_lost_already_takes_no_one_along() -> None:
    slots = slots_of()
    requests = [request(1, each) for each in ("s", "", "")]
    sequence, *_ = [slots.admit(each) for each in requests]
    assert slots.lose(sequence, requests[1], 0) == [requests[2]]
    assert slots.lose(sequence, requests[2], 0) == []
    assert list(sequence.waiting) == requests[:1]


def test_nothing_is_left_of_a_sequence_that_was_lost_in_the_backlog() -> None:
    slots = slots_of(1, lanes=1, rows=1)
    lost = request(2, "s")
    assert slots.lose(slots.admit(lost), lost, 0) == []
    assert (slots.backlog, slots.waiting) == (0, 1)


def test_when_no_more_can_come_idle_sequences_make_room() -> None:
    slots = slots_of(1, 2, lanes=1, rows=1)
    run_next(slots, slots.sequences(0)[0])
    assert slots.backlog == 1
    slots.close_all(0)
    assert [sequence.id for sequence in slots.sequences(0).values()] == [2]
    run_next(slots, slots.sequences(0)[0])
    assert not slots.sequences(0)


# -- any order ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Simple:
    """A sequence in the simple model: ``slot`` is None while it waits for one."""

    id: SequenceId
    slot: int | None = None
    waiting: list[Request] = field(default_factory=list)
    running: bool = False
    open: bool = True
    idle_since_ns: int | None = None


class SlotsMachine(RuleBasedStateMachine):
    """``all``: every sequence that is not over, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots = SequenceSlots("m", LANES, ROWS, IDLE_NS)
        self.all: list[tuple[Simple, LiveSequence[Request]]] = []
        self.taken: dict[Request, tuple[Simple, LiveSequence[Request]]] = {}
        self.now_ns = 0

    def settle(self) -> None:
        """Remove what is over, and hand out what is free: lowest slot first, in the order of arrival."""
        for simple, _ in self.all:
            still = simple.open and not simple.waiting and not simple.running
            if not still:
                simple.idle_since_ns = None
            elif simple.idle_since_ns is None:
                simple.idle_since_ns = self.now_ns
        self.all = [pair for pair in self.all if pair[0].open or pair[0].waiting or pair[0].running]
        for simple, _ in self.all:
            free = set(range(LANES * ROWS)) - {other.slot for other, _ in self.all}
            if simple.slot is None and free:
                simple.slot = min(free)

    @rule(sequence_id=st.sampled_from([1, 2, 3, "1", "x", 4, 5]), flags=st.sampled_from(["", "", "s", "s", "e", "se"]))
    def admit(self, sequence_id: SequenceId, flags: str) -> None:
        new = request(sequence_id, flags)
        simple = next((each for each, _ in self.all if each.id == sequence_id and each.open), None)
        if simple is None and "s" not in flags:
            with pytest.raises(InvalidArgument):
                self.slots.admit(new)
            return
        sequence = self.slots.admit(new)
        if simple is None:
            simple = Simple(sequence_id)
            self.all.append((simple, sequence))
        simple.waiting.append(new)
        simple.open = "e" not in flags
        self.settle()

    @precondition(lambda self: any(each.slot is not None and each.waiting and not each.running for each, _ in self.all))
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        ready = [pair for pair in self.all if pair[0].slot is not None and pair[0].waiting and not pair[0].running]
        simple, sequence = data.draw(st.sampled_from(ready))
        taken = self.slots.take(sequence)
        assert taken is simple.waiting.pop(0)
        simple.running = True
        self.taken[taken] = simple, sequence

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        simple, sequence = self.taken.pop(data.draw(st.sampled_from(list(self.taken))))
        self.slots.done(sequence, self.now_ns)
        simple.running = False
        self.settle()

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        simple, sequence = data.draw(st.sampled_from(self.all))
        running = [taken for taken, pair in self.taken.items() if pair[0] is simple]
        candidates = running + simple.waiting
        if not candidates:
            return
        lost = data.draw(st.sampled_from(candidates))
        behind = simple.waiting if lost in running else simple.waiting[simple.waiting.index(lost) + 1 :]
        before = simple.waiting[: len(simple.waiting) - len(behind) - (lost not in running)]
        restart = next((index for index, each in enumerate(behind) if each.terms.start), len(behind))
        assert self.slots.lose(sequence, lost, self.now_ns) == behind[:restart]
        simple.waiting = before + behind[restart:]
        if restart == len(behind):
            simple.open = False
        self.settle()

    @rule(duration_ns=st.integers(0, IDLE_NS))
    def wait(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        found = {id(sequence) for sequence in self.slots.reclaim(self.now_ns)}
        expected = [
            (simple, sequence)
            for simple, sequence in self.all
            if simple.idle_since_ns is not None and self.now_ns - simple.idle_since_ns >= IDLE_NS
        ]
        assert found == {id(sequence) for _, sequence in expected}
        for simple, _ in sorted(expected, key=lambda pair: pair[0].idle_since_ns or 0):
            simple.open = False
            self.settle()

    @rule()
    def close(self) -> None:
        self.slots.close_all(self.now_ns)
        for simple, _ in list(self.all):
            simple.open = False
        self.settle()

    @invariant()
    def agrees(self) -> None:
        assert self.slots.waiting == sum(len(simple.waiting) for simple, _ in self.all)
        assert self.slots.waiting_bytes == 3 * self.slots.waiting
        assert self.slots.backlog == sum(simple.slot is None for simple, _ in self.all)
        in_slots = [sequence for lane in range(LANES) for sequence in self.slots.sequences(lane).values()]
        assert len(in_slots) == sum(simple.slot is not None for simple, _ in self.all)
        for simple, sequence in self.all:
            assert list(sequence.waiting) == simple.waiting
            assert (sequence in in_slots) is (simple.slot is not None)
            assert self.slots.is_live(simple.id) is any(other.open and other.id == simple.id for other, _ in self.all)
        since = [simple.idle_since_ns for simple, _ in self.all if simple.idle_since_ns is not None]
        assert self.slots.next_expiry_ns == (min(since) + IDLE_NS if since else None)


SlotsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSlots = SlotsMachine.TestCase
