from collections.abc import Callable

import pytest

from ortolan.core.batch_spans import Batches
from ortolan.core.span import Span
from ortolan.core.span_ids import SpanIds
from ortolan.core.trace_context import TraceContext
from ortolan.execution.model_statistics import ExecutionTimes


class Timers:
    """Those that were set, to be run by the test."""

    def __init__(self) -> None:
        self.set: list[Callable[[], None]] = []

    def __call__(self, _delay_s: float, call: Callable[[], None]) -> None:
        self.set.append(call)


class Gathering:
    """Batches, and the spans that came of them."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.spans: list[Span] = []
        self.batches = Batches(SpanIds(1), self.spans.append, self.timers)

    def join(self, times: ExecutionTimes, member: TraceContext) -> TraceContext:
        return self.batches.joined(times, 4, "m", 3, member, epoch_ns=1000)


@pytest.fixture
def gathering() -> Gathering:
    return Gathering()


def times() -> ExecutionTimes:
    return ExecutionTimes(10, 20, 30, 40)


def member(number: int) -> TraceContext:
    return TraceContext(number, number)


def test_the_members_of_one_execution_meet_in_one_span(gathering: Gathering) -> None:
    execution = times()
    contexts = {gathering.join(execution, member(number)) for number in (1, 2, 3)}
    (timer,) = gathering.timers.set
    assert not gathering.spans
    timer()
    (span,) = gathering.spans
    assert contexts == {span.context}
    assert span.context.trace_id not in (1, 2, 3)
    assert (span.name, span.parent, span.links) == ("batch", None, [member(1), member(2), member(3)])
    assert (span.start_ns, span.end_ns) == (1010, 1040)
    assert span.attributes == {
        "triton.model_name": "m",
        "triton.model_version": 3,
        "ortolan.batch.rows": 4,
        "ortolan.batch.traced_requests": 3,
    }


def test_executions_at_the_same_times_are_two(gathering: Gathering) -> None:
    executions = times(), times()
    assert gathering.join(executions[0], member(1)) != gathering.join(executions[1], member(2))


def test_at_the_end_nothing_is_kept_back_and_nothing_told_twice(gathering: Gathering) -> None:
    gathering.join(times(), member(1))
    gathering.join(times(), member(2))
    gathering.batches.close()
    assert len(gathering.spans) == 2
    for timer in gathering.timers.set:
        timer()
    assert len(gathering.spans) == 2


def test_links_have_an_end_and_the_number_of_members_is_told(gathering: Gathering) -> None:
    execution = times()
    for number in range(1, 201):
        gathering.join(execution, member(number))
    gathering.batches.close()
    (span,) = gathering.spans
    assert (len(span.links), span.attributes["ortolan.batch.traced_requests"]) == (128, 200)
