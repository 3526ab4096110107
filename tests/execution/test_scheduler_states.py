"""Any order of asking, cancelling, failing, being late, starting and closing: the scheduler answers everyone once."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_models
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ortolan.errors import DeadlineExceeded, InvalidArgument, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.answer import Answer
from ortolan.execution.batch_policy import Batching
from ortolan.execution.cost_curve import CurveBook, CurvePoint
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.graph_request import GraphRequest, RequestLimits
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.model_statistics import FailureReason
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
GATHER = Session(onnx_models.gather().SerializeToString(), "m", SessionSettings(), CPU, Path())
MAX_ROWS = 4
POINTS = [CurvePoint(1, 20_000), CurvePoint(MAX_ROWS, 25_000)]
BAD = 9
REASONS = {
    asyncio.CancelledError: FailureReason.CANCELED,
    InvalidArgument: FailureReason.BACKEND,
    QueueFull: FailureReason.REJECTED,
    RequestTimeout: FailureReason.REJECTED,
    DeadlineExceeded: FailureReason.REJECTED,
    Unavailable: FailureReason.OTHER,
}


class SchedulerMachine(RuleBasedStateMachine):
    """Real threads and a real loop; ``tasks``: every request that was ever asked, with its values."""

    @initialize(
        batching=st.sampled_from(
            [Batching(MAX_ROWS), Batching(), Batching(MAX_ROWS, (2, 3), 300_000, explicit=True)]  # a delay of 0.3 ms
        ),
        ordered=st.booleans(),
        inline=st.booleans(),
        instances=st.integers(1, 2),
    )
    def begin(self, batching: Batching, ordered: bool, inline: bool, instances: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: list[tuple[asyncio.Task[Answer], list[int]]] = []
        gate = InlineGate(POINTS, MAX_ROWS, 1_000_000) if inline else None
        curves = CurveBook(POINTS, MAX_ROWS, rows_vary=False)
        plan = SchedulingPlan(batching, LinePolicy(levels=2), ordered, curves, gate)
        share = DeviceShare(1)
        sessions = [(f"m_{number}", GATHER, share) for number in range(instances)]
        self.scheduler = Scheduler("m", sessions, plan, QueueLimits(6), self.loop)
        self.started = False

    @rule(
        values=st.lists(st.sampled_from([0, 1, 2, 3, BAD]), min_size=1, max_size=3),
        shapes=st.sampled_from("aab"),
        priority=st.integers(0, 2),
        timeout_us=st.sampled_from([0, 0, 200]),
        deadline_us=st.sampled_from([None, None, None, 0, 300, 10**9]),
    )
    def ask(self, values: list[int], shapes: str, priority: int, timeout_us: int, deadline_us: int | None) -> None:
        deadline_ns = 0 if deadline_us is None else time.monotonic_ns() + deadline_us * 1000
        inputs = {"x": np.array(values).reshape(-1, 1)}
        limits = RequestLimits(priority, timeout_us, deadline_ns)
        task = self.loop.create_task(self.scheduler.infer(GraphRequest(inputs, ("y",), len(values), shapes, limits)))
        self.tasks.append((task, values))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.tasks))[0].cancel()

    @rule(ticks=st.integers(1, 3))
    def turn(self, ticks: int) -> None:
        for _ in range(ticks):
            self.loop.run_until_complete(asyncio.sleep(0))

    @precondition(lambda self: not self.started)
    @rule()
    def start(self) -> None:
        self.started = True
        self.scheduler.start()

    @rule()
    def close(self) -> None:
        self.scheduler.refuse_new()

    @precondition(lambda self: self.started and self.tasks)
    @rule()
    def wait_for_the_first(self) -> None:
        self.loop.run_until_complete(asyncio.wait([self.tasks[0][0]], timeout=30))
        assert self.tasks[0][0].done()

    def teardown(self) -> None:
        if not self.started:
            self.scheduler.start()
        self.loop.run_until_complete(self.finish())
        self.loop.close()

    async def finish(self) -> None:
        await asyncio.sleep(0)
        self.scheduler.refuse_new()
        async with asyncio.timeout(30):
            await self.scheduler.drained()
            ends = await asyncio.gather(*(task for task, _ in self.tasks), return_exceptions=True)
        assert self.scheduler.join(30)
        assert (self.scheduler.waiting_requests, self.scheduler.in_flight_requests) == (0, 0)
        for (_, values), end in zip(self.tasks, ends, strict=True):
            assert type(end) in (Answer, *REASONS), repr(end)
            if isinstance(end, Answer):
                assert end.outputs[0][:, 0].tolist() == values
            if isinstance(end, InvalidArgument):
                assert BAD in values
        self.check_statistics([type(end) for end in ends])

    def check_statistics(self, ends: list[type]) -> None:
        statistics = self.scheduler.statistics
        assert statistics.success.count == ends.count(Answer)
        counted = Counter({reason: count for reason, count in statistics.failures.items() if count})
        expected = Counter(REASONS[end] for end in ends if end is not Answer)
        # Who is cancelled before its first step has not asked for anything.
        before = expected[FailureReason.CANCELED] - counted[FailureReason.CANCELED]
        assert before >= 0
        expected[FailureReason.CANCELED] -= before
        assert counted == +expected
        assert statistics.fail.count == counted.total()


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
