"""The waiting line against a naive one, under any order of events; and the queue policy's rules, one by one."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ortolan.errors import QueueFull
from ortolan.execution.waiting_line import LinePolicy, WaitingLine
from ortolan.repository.model_config import DynamicBatching, QueuePolicy, TimeoutAction

REJECT = QueuePolicy(default_timeout_us=100)
OVERRIDABLE = QueuePolicy(default_timeout_us=100, allow_timeout_override=True)
OVERRIDABLE_WITHOUT_DEFAULT = QueuePolicy(allow_timeout_override=True)
DELAY = QueuePolicy(TimeoutAction.DELAY, default_timeout_us=100)
MANY = 1 << 40


@dataclass(slots=True, eq=False)
class Request:
    """What the line has to know of a request."""

    name: str = ""
    priority: int = 0
    rows: int = 1
    size_bytes: int = 1
    queue_deadline_ns: int = 0
    enqueued_ns: int = 0


def line_of(
    policy: LinePolicy | None = None, *requests: Request, max_requests: int = MANY, max_bytes: int = MANY
) -> WaitingLine[Request]:
    line: WaitingLine[Request] = WaitingLine(policy or LinePolicy(), max_requests, max_bytes)
    for request in requests:
        line.push(request)
    return line


def names(line: WaitingLine[Request]) -> str:
    return " ".join(request.name for request in line)


def levels(count: int, default: int = 1, by_level: Mapping[int, QueuePolicy] | None = None) -> LinePolicy:
    return LinePolicy(count, default, by_level=by_level, declared=by_level is not None)


# -- what the configuration says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batching", "expected"),
    [
        (None, LinePolicy()),
        (DynamicBatching(), LinePolicy(by_level={})),
        (DynamicBatching(priority_levels=3, default_priority_level=2), LinePolicy(3, 2, by_level={})),
        (DynamicBatching(default_queue_policy=REJECT), LinePolicy(default=REJECT, by_level={}, declared=True)),
        (
            DynamicBatching(priority_levels=2, default_priority_level=1, priority_queue_policies={2: DELAY}),
            LinePolicy(2, 1, by_level={2: DELAY}, declared=True),
        ),
    ],
)
def test_the_line_has_the_policy_of_the_configuration(batching: DynamicBatching | None, expected: LinePolicy) -> None:
    assert LinePolicy.of(batching) == expected


@pytest.mark.parametrize(
    ("policy", "asked_us", "timeout_us"),
    [
        (None, 0, 0),
        (None, 70, 70),  # without a policy the request's own timeout counts
        (REJECT, 0, 100),
        (REJECT, 70, 100),  # it may not override
        (OVERRIDABLE, 0, 100),
        (OVERRIDABLE, 70, 70),
        (OVERRIDABLE, 100, 100),
        (OVERRIDABLE, 170, 100),  # only a shorter one counts
        (OVERRIDABLE_WITHOUT_DEFAULT, 70, 0),  # and with no default none is shorter
    ],
)
def test_how_long_a_request_may_wait(policy: QueuePolicy | None, asked_us: int, timeout_us: int) -> None:
    line = LinePolicy.of(DynamicBatching(default_queue_policy=policy) if policy else None)
    assert line.queue_timeout_us(1, asked_us) == timeout_us


def test_a_level_without_a_policy_of_its_own_has_the_default_one() -> None:
    policy = LinePolicy(3, 2, default=REJECT, by_level={1: OVERRIDABLE_WITHOUT_DEFAULT}, declared=True)
    assert [policy.queue_timeout_us(level, 0) for level in (1, 2, 3)] == [0, 100, 100]


@pytest.mark.parametrize(
    ("policy", "priority", "level"),
    [
        (levels(3, 2), 1, 1),
        (levels(3, 2), 3, 3),
        (levels(3, 2), 0, 2),  # not said
        (levels(3, 2), 4, 2),  # there is no such level
        (levels(1), 7, 1),
    ],
)
def test_the_level_of_a_priority(policy: LinePolicy, priority: int, level: int) -> None:
    assert policy.level_of(priority) == level


# -- order ---------------------------------------------------------------------------------------------------------


def test_the_levels_are_served_in_order_and_each_in_the_order_of_arrival() -> None:
    line = line_of(levels(3, 2), Request("a", 3), Request("b", 1), Request("c"), Request("d", 1), Request("e", 2))
    assert names(line) == "b d c e a"


@pytest.mark.parametrize(
    ("rows", "max_rows", "count"),
    [
        ("1", 8, 1),
        ("1 1 1", 1, 2),
        ("3 1 1", 1, 2),
        ("1 1 1", 2, 3),
        ("1 1 1 1 1", 3, 4),  # as many as fit, and the one that does not
        ("3 1 1", 3, 2),
        ("9 1", 8, 1),
        ("2 2 2", 5, 3),
    ],
)
def test_the_front_is_what_may_fit_and_one_more(rows: str, max_rows: int, count: int) -> None:
    line = line_of(None, *(Request(rows=int(each)) for each in rows.split()))
    assert line.front(max_rows) == list(line)[:count]


# -- bounds --------------------------------------------------------------------------------------------------------


def test_the_number_of_requests_is_bounded_exactly() -> None:
    line = line_of(None, *(Request() for _ in range(5)), max_requests=5)
    with pytest.raises(QueueFull, match="Exceeds maximum queue size: 5 requests wait already"):
        line.push(Request())
    line.remove(next(iter(line)))
    line.push(Request("next"))
    assert len(line) == 5


def test_the_bytes_are_bounded_exactly() -> None:
    line = line_of(None, Request(size_bytes=60), max_bytes=100)
    with pytest.raises(QueueFull, match="hold 60 bytes already and may hold 100"):
        line.push(Request(size_bytes=41))
    line.push(Request(size_bytes=40))
    assert line.size_bytes == 100


def test_a_request_beyond_the_bytes_waits_if_it_is_the_only_one() -> None:
    line = line_of(None, Request(size_bytes=500), max_bytes=100)
    with pytest.raises(QueueFull):
        line.push(Request(size_bytes=1))
    assert len(line) == 1


def test_each_level_has_a_bound_of_its_own_which_counts_the_delayed_ones() -> None:
    policy = levels(2, 2, {1: QueuePolicy(TimeoutAction.DELAY, max_queue_size=2), 2: QueuePolicy(max_queue_size=1)})
    late = Request("late", 1, queue_deadline_ns=5)
    line = line_of(policy, late, Request("b", 1), Request("c"))
    assert not line.expire([late], 5)
    for priority in (1, 2):
        with pytest.raises(QueueFull, match="Exceeds maximum queue size"):
            line.push(Request("refused", priority))
    assert names(line) == "b late c"


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("now_ns", "refused"), [(9, 0), (10, 1), (11, 1)])
def test_a_request_whose_time_is_over_is_refused(now_ns: int, refused: int) -> None:
    line = line_of(LinePolicy(default=REJECT, declared=True), Request(queue_deadline_ns=10), Request())
    assert len(line.expire(list(line), now_ns)) == refused
    assert len(line) == 2 - refused


def test_without_a_policy_a_request_with_a_timeout_of_its_own_is_refused() -> None:
    line = line_of(None, Request(queue_deadline_ns=10))
    assert line.expire(list(line), 10)
    assert not len(line)
    assert line.rows == line.size_bytes == 0


def test_under_delay_a_late_request_goes_behind_the_fresh_ones_of_its_level() -> None:
    policy = levels(2, 2, {1: DELAY, 2: DELAY})
    line = line_of(policy, Request("a", 1, queue_deadline_ns=10), Request("b", 1), Request("c", 2))
    assert line.expire(list(line), 10) == []
    line.push(Request("d", 1))
    assert names(line) == "b d a c"
    assert line.expire(list(line), 10_000) == []  # once delayed, it is served whenever it is its turn
    assert names(line) == "b d a c"


# -- any order of events -------------------------------------------------------------------------------------------

policies = st.builds(
    QueuePolicy, st.sampled_from(TimeoutAction), st.just(0), st.booleans(), st.sampled_from((0, 0, 1, 3))
)


class AnyOrderOfEvents(RuleBasedStateMachine):
    """A line beside a plain list of (level, delayed, arrival, request) that is sorted whenever it is looked at."""

    MAX_REQUESTS = 8
    MAX_BYTES = 40

    @initialize(count=st.integers(1, 3), default=policies, by_level=st.dictionaries(st.integers(1, 3), policies))
    def begin(self, count: int, default: QueuePolicy, by_level: dict[int, QueuePolicy]) -> None:
        self.policy = LinePolicy(count, 1 + count // 2, default, by_level, declared=True)
        self.line: WaitingLine[Request] = WaitingLine(self.policy, self.MAX_REQUESTS, self.MAX_BYTES)
        self.naive: list[tuple[int, bool, int, Request]] = []
        self.arrivals = 0
        self.now_ns = 0

    def level_of(self, request: Request) -> int:
        return request.priority if request.priority in range(1, self.policy.levels + 1) else self.policy.default_level

    def expected(self) -> list[Request]:
        return [request for *_, request in sorted(self.naive, key=lambda each: each[:3])]

    @rule(priority=st.integers(0, 4), rows=st.integers(1, 4), size=st.integers(0, 20), wait=st.sampled_from((0, 1, 3)))
    def push(self, priority: int, rows: int, size: int, wait: int) -> None:
        request = Request(str(self.arrivals), priority, rows, size, self.now_ns + wait if wait else 0)
        level = self.level_of(request)
        most = self.policy.policy_of(level).max_queue_size
        held = sum(each.size_bytes for each in self.expected())
        full = (
            (most and sum(each[0] == level for each in self.naive) >= most)
            or len(self.naive) >= self.MAX_REQUESTS
            or (self.naive and held + size > self.MAX_BYTES)
        )
        if full:
            with pytest.raises(QueueFull):
                self.line.push(request)
            return
        self.line.push(request)
        self.naive.append((level, False, self.arrivals, request))
        self.arrivals += 1

    @precondition(lambda self: self.naive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.naive))
        self.line.remove(gone[-1])
        self.naive.remove(gone)

    @rule(later=st.integers(1, 4), whole=st.booleans(), max_rows=st.integers(1, 6))
    def expire(self, later: int, whole: bool, max_rows: int) -> None:
        self.now_ns += later
        among = self.expected() if whole else self.line.front(max_rows)
        refused = self.line.expire(among, self.now_ns)
        late = [each for each in among if 0 < each.queue_deadline_ns <= self.now_ns]
        delay = {each for each in late if self.policy_of(each).timeout_action is TimeoutAction.DELAY}
        assert refused == [each for each in late if each not in delay]
        self.naive = [entry for entry in self.naive if entry[-1] not in refused]
        for request in late:
            self.delay(request)

    def policy_of(self, request: Request) -> QueuePolicy:
        return self.policy.policy_of(self.level_of(request))

    def delay(self, request: Request) -> None:
        """Behind all of its level, in the order in which that happened."""
        for index, (level, delayed, _, each) in enumerate(self.naive):
            if each is request and not delayed:
                self.naive[index] = (level, True, self.arrivals, request)
                self.arrivals += 1

    @invariant()
    def they_agree(self) -> None:
        expected = self.expected()
        assert list(self.line) == expected
        assert len(self.line) == len(expected)
        assert self.line.rows == sum(each.rows for each in expected)
        assert self.line.size_bytes == sum(each.size_bytes for each in expected)
        front = self.line.front(5)
        assert front == expected[: len(front)]
        assert sum(each.rows for each in front) > 5 or len(front) == len(expected)


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_only_what_is_served_first_is_before_a_request() -> None:
    policy = LinePolicy.of(DynamicBatching(priority_levels=3, default_priority_level=2))
    line = line_of(policy, Request("a", 1, 4), Request("b", 2, 8), Request("c", 3, 16))
    assert [line.rows_before(priority) for priority in (1, 2, 0, 3)] == [4, 12, 12, 28]
    line.remove(next(iter(line)))
    assert line.rows_before(1) == 0
