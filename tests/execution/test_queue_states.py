"""Any order of put, cancel, expire, drop, run, fail and close: each admitted request is over exactly once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ortolan.errors import Cancelled, DeadlineExceeded, InvalidArgument, OrtolanError, QueueFull, RequestTimeout
from ortolan.execution.batch_policy import Batching
from ortolan.execution.cost_curve import CurveBook, CurvePoint
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.instance import execute
from ortolan.execution.queued_request import QueuedRequest, Refusal
from ortolan.execution.request_queue import QueueLimits, RequestQueue
from ortolan.execution.running import Running
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.repository.model_config import InstanceKind, QueuePolicy, TimeoutAction

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
GATHER = Session(onnx_models.gather().SerializeToString(), "m", SessionSettings(), CPU, Path())
BAD = 9
MAX_ROWS = 4
CAPACITY = 6
DELAYED_LEVEL_CAPACITY = 3
# Level 1 is refused when its time is over, level 2 goes to the end of its line.
POLICY = LinePolicy(
    levels=2,
    default_level=1,
    default=QueuePolicy(TimeoutAction.REJECT),
    by_level={2: QueuePolicy(TimeoutAction.DELAY, max_queue_size=DELAYED_LEVEL_CAPACITY)},
    declared=True,
)
POINTS = [CurvePoint(1, 10), CurvePoint(MAX_ROWS, 20)]
_Times = st.sampled_from([0, 0, 0, 5, 30])


@dataclass(frozen=True)
class Over:
    """How a request ended: executed with a value, cancelled, or refused with a kind of error."""

    how: str
    answer: object = None


class QueueMachine(RuleBasedStateMachine):
    """``waiting``: who should be in the queue. ``running``: batches that were taken. ``over``: how each one ended."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.queue = RequestQueue(
            Batching(MAX_ROWS), POLICY, QueueLimits(CAPACITY), CurveBook(POINTS, MAX_ROWS, False), 1, self.clock
        )
        self.values: dict[QueuedRequest, list[int]] = {}
        self.waiting: list[QueuedRequest] = []
        self.running: list[Running[QueuedRequest]] = []
        self.over: dict[QueuedRequest, Over] = {}
        self.closed = False

    def clock(self) -> int:
        return self.now_ns

    def end(self, request: QueuedRequest, over: Over) -> None:
        assert request not in self.over, f"{request} was {self.over[request]}, and is {over} now"
        self.over[request] = over

    # -- on the way in -------------------------------------------------------------------------------------------

    @rule(data=st.data(), count=st.integers(1, 3))
    def put(self, data: st.DataObject, count: int) -> None:
        requests = [self.drawn(data) for _ in range(count)]
        refusals = self.queue.put(requests)
        turned_away = [refusal.request for refusal in refusals]
        for refusal in refusals:
            self.check_refusal_at_the_door(refusal)
            self.end(refusal.request, Over("refused", refusal.error))
        self.waiting += [request for request in requests if request not in turned_away]

    def drawn(self, data: st.DataObject) -> QueuedRequest:
        values = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, BAD]), min_size=1, max_size=MAX_ROWS + 1))
        queue_time, deadline = data.draw(_Times), data.draw(_Times)
        request = QueuedRequest(
            {"x": np.array(values).reshape(-1, 1)},
            ("y",),
            len(values),
            data.draw(st.sampled_from("aab")),
            self.now_ns,
            None,
            size_bytes=8 * len(values),
            priority=data.draw(st.integers(0, 3)),
            queue_deadline_ns=self.now_ns + queue_time if queue_time else 0,
            deadline_ns=self.now_ns + deadline if deadline else 0,
        )
        self.values[request] = values
        return request

    def check_refusal_at_the_door(self, refusal: Refusal) -> None:
        request, error = refusal.request, refusal.error
        if isinstance(error, QueueFull):
            assert not self.closed
            # Some of the same put may have come in before it.
            assert len(self.queue) == CAPACITY or request.priority == 2
        elif isinstance(error, DeadlineExceeded):
            assert request.deadline_ns
        else:
            assert self.closed
            assert "stopped accepting" in error.message

    # -- on the way out ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting or self.closed)
    @rule()
    def take(self) -> None:
        work = self.queue.take()
        if work is None:
            assert self.closed
            assert not self.waiting
            return
        assert work.running is not None or work.refusals
        for refusal in work.refusals:
            assert self.is_due(refusal)
            self.waiting.remove(refusal.request)
            self.end(refusal.request, Over("refused", refusal.error))
        if work.running is not None:
            self.check_batch(work.running)
            self.running.append(work.running)

    def is_due(self, refusal: Refusal) -> bool:
        if isinstance(refusal.error, RequestTimeout):
            return 0 < refusal.request.queue_deadline_ns <= self.now_ns and refusal.request.priority != 2
        return isinstance(refusal.error, DeadlineExceeded) and refusal.request.deadline_ns > 0

    def check_batch(self, running: Running[QueuedRequest]) -> None:
        batch = running.requests
        assert len(batch) == 1 or sum(request.rows for request in batch) <= MAX_ROWS
        assert len({request.shapes for request in batch}) == 1
        assert running.wanted == len(batch)
        for request in batch:
            self.waiting.remove(request)
        levels = [POLICY.level_of(request.priority) for request in batch]
        waiting_levels = {POLICY.level_of(request.priority) for request in self.waiting}
        assert levels == sorted(levels)
        assert max(levels) == 1 or 1 not in waiting_levels

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        """A batch is executed by ONNX Runtime; one that has a wrong index fails, and is taken apart."""
        running = data.draw(st.sampled_from(self.running))
        self.running.remove(running)
        for execution in execute(GATHER, running):
            for request, answer in zip(execution.requests, execution.answers, strict=True):
                request.running = None
                self.check_answer(request, answer)

    def check_answer(self, request: QueuedRequest, answer: object) -> None:
        values = self.values[request]
        if request in self.over:
            assert self.over[request].how == "cancelled while it ran"
        elif BAD in values:
            assert isinstance(answer, InvalidArgument)
            self.end(request, Over("failed", answer))
        else:
            assert not isinstance(answer, OrtolanError), answer
            assert answer[0][:, 0].tolist() == values
            self.end(request, Over("answered", answer))

    # -- who gives up ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_one_that_waits(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        assert self.queue.take_out(request)
        self.waiting.remove(request)
        self.end(request, Over("cancelled"))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel_one_that_runs(self, data: st.DataObject) -> None:
        running = data.draw(st.sampled_from(self.running))
        request = data.draw(st.sampled_from(running.requests))
        assert not self.queue.take_out(request)
        if request not in self.over:
            self.end(request, Over("cancelled while it ran"))
        assert running.abandoned == all(each in self.over for each in running.requests)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def cancel_one_that_is_over(self, data: st.DataObject) -> None:
        assert not self.queue.take_out(data.draw(st.sampled_from(list(self.over))))

    @precondition(lambda self: self.values)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """A timer goes off, perhaps when the request has left the queue already."""
        request = data.draw(st.sampled_from(list(self.values)))
        refused = self.queue.expire(request)
        due = request in self.waiting and 0 < request.queue_deadline_ns <= self.now_ns
        assert refused == (due and request.priority != 2)
        if refused:
            self.waiting.remove(request)
            self.end(request, Over("refused"))

    @rule(ns=st.sampled_from([1, 5, 10, 40]))
    def time_passes(self, ns: int) -> None:
        self.now_ns += ns

    @rule()
    def close(self) -> None:
        self.queue.close()
        self.closed = True

    # -- always ----------------------------------------------------------------------------------------------------

    @invariant()
    def the_queue_holds_exactly_those_that_wait(self) -> None:
        assert len(self.queue) == len(self.waiting) <= CAPACITY
        assert self.queue.waiting_bytes == sum(request.size_bytes for request in self.waiting)
        assert all(request.waiting == (request in self.waiting) for request in self.values)
        assert len([request for request in self.waiting if request.priority == 2]) <= DELAYED_LEVEL_CAPACITY

    @invariant()
    def everyone_waits_runs_or_is_over(self) -> None:
        runs = {request for running in self.running for request in running.requests}
        for request in self.values:
            places = [request in self.waiting, request in runs, request in self.over and request not in runs]
            assert places.count(True) == 1, request

    def teardown(self) -> None:
        """The version is unloaded: it runs what is inside, and then nothing is left."""
        self.close()
        while self.waiting:
            self.take()
        self.take()
        for running in list(self.running):
            for execution in execute(GATHER, running):
                for request, answer in zip(execution.requests, execution.answers, strict=True):
                    self.check_answer(request, answer)
        assert self.over.keys() == self.values.keys()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_run_that_no_one_waits_for_is_not_begun() -> None:
    request = QueuedRequest({"x": np.array([[1]])}, ("y",), 1, None, 0, None)
    running = Running([request], 1, 0)
    running.forget_one()
    (execution,) = execute(GATHER, running)
    assert isinstance(execution.answers[0], Cancelled)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_of_a_batch_that_fails_only_those_that_are_still_wanted_are_run_alone(gone: int) -> None:
    requests = [QueuedRequest({"x": np.array([[value]])}, ("y",), 1, None, 0, None) for value in (1, BAD, 2)]
    queue = RequestQueue(Batching(MAX_ROWS), LinePolicy(), QueueLimits(), clock_ns=lambda: 0)
    queue.put(requests)
    work = queue.take()
    assert work is not None
    assert work.running is not None
    queue.take_out(requests[gone])
    kinds = [type(execution.answers[0]) for execution in execute(GATHER, work.running)]
    expected = [list, InvalidArgument, list]
    expected[gone] = Cancelled
    assert kinds == expected
