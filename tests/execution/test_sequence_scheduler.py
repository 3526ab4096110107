"""Sequences from asyncio: each request is answered exactly once, in its sequence's order, with its sequence's state."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_sequences
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    QueueFull,
    RequestTimeout,
    Unavailable,
)
from ortolan.execution.answer import Answer
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.graph_request import NO_LIMITS, GraphRequest, RequestLimits, SequenceId, SequenceTerms
from ortolan.execution.model_statistics import FailureReason
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.sequence_policy import LaneRule
from ortolan.execution.sequence_scheduler import SequenceScheduler, scheduler_for
from ortolan.execution.sequence_state import initial_states
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import FP32
from ortolan.repository.model_config import InstanceKind
from ortolan.repository.sequence_config import SequenceState

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
A_WHILE_S = 30.0
AN_HOUR_NS = 3_600 * 10**9
# A run that ends by itself takes minutes, so that one that is over sooner was ended.
ENDLESS = 1e9
SUM = SequenceState("sum_in", "sum_out", FP32, (1,))
Asked = asyncio.Task[Answer]


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


ACCUMULATOR = session_of(onnx_sequences.accumulator())
CHECKED = session_of(onnx_sequences.checked_accumulator())
SLOW = session_of(onnx_sequences.slow_accumulator())
MEMORY = session_of(onnx_sequences.memory())


def plan_of(
    lanes: int = 1,
    rows: int = 4,
    delay_ns: int = 0,
    utilization: float = 0.0,
    idle_ns: int = AN_HOUR_NS,
    direct: bool = True,
    states: tuple[SequenceState, ...] = (SUM,),
    ordered: bool = False,
) -> SchedulingPlan:
    """Under oldest, ``lanes`` are the candidate sequences, and the dynamic batcher takes up to four."""
    rule = LaneRule(rows if direct else 1, delay_ns, utilization)
    sequences = SequencePlan(lanes, rule, True, idle_ns, (), states, initial_states(states, True, Path()), direct)
    batching = Batching(4, (4,), delay_ns, explicit=delay_ns > 0) if not direct else Batching(4, explicit=True)
    return SchedulingPlan(batching, LinePolicy(), ordered, sequences=sequences)


@asynccontextmanager
async def scheduler_of(
    session: Session = ACCUMULATOR,
    plan: SchedulingPlan | None = None,
    limits: QueueLimits | None = None,
    instances: int = 1,
) -> AsyncIterator[SequenceScheduler]:
    share = DeviceShare(2)
    sessions = [(f"m_{number}", session, share) for number in range(instances)]
    loop = asyncio.get_running_loop()
    scheduler = scheduler_for("m", sessions, plan or plan_of(), limits or QueueLimits(1000), loop)
    assert isinstance(scheduler, SequenceScheduler)
    scheduler.start()
    yield scheduler
    scheduler.refuse_new()
    async with asyncio.timeout(A_WHILE_S):
        await scheduler.drained()
    assert await asyncio.to_thread(scheduler.join, A_WHILE_S)
    assert (scheduler.waiting_requests, scheduler.in_flight_requests) == (0, 0)


def request(
    sequence_id: SequenceId, value: float, flags: str = "", limits: RequestLimits = NO_LIMITS, output: str = "y"
) -> GraphRequest:
    """``flags``: s for the first of its sequence, e for the last."""
    terms = SequenceTerms(sequence_id, "s" in flags, "e" in flags)
    return GraphRequest({"x": np.array([[value]], np.float32)}, (output,), 1, None, limits, terms)


def ask(scheduler: SequenceScheduler, *requests: GraphRequest) -> list[Asked]:
    return [asyncio.create_task(scheduler.infer(each)) for each in requests]


async def sums(tasks: Iterable[Asked]) -> list[object]:
    """Of each request its answer's number, or the kind of its error."""
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), A_WHILE_S)
    return [float(end.outputs[0].flat[0]) if isinstance(end, Answer) else type(end) for end in ends]


def executions(scheduler: SequenceScheduler) -> dict[int, int]:
    """For each number of rows, how many executions had it."""
    return {size: batch.compute_infer.count for size, batch in scheduler.statistics.batches.items()}


def failures(scheduler: SequenceScheduler) -> dict[FailureReason, int]:
    return {reason: count for reason, count in scheduler.statistics.failures.items() if count}


async def until_running(scheduler: SequenceScheduler) -> None:
    while not any(instance.running for instance in scheduler.instances):  # noqa: ASYNC110 - a thread tells nobody
        await asyncio.sleep(0)


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
async def test_each_sequence_has_a_state_of_its_own(direct: bool) -> None:
    async with scheduler_of(plan=plan_of(lanes=1 if direct else 2, direct=direct)) as scheduler:
        tasks = ask(scheduler, request(1, 1, "s"), request("1", 10, "s"), request(1, 2), request("1", 20))
        tasks += ask(scheduler, request(1, 3, "e"), request("1", 30, "e"))
        assert await sums(tasks) == [1, 10, 3, 30, 6, 60]
        assert scheduler.statistics.inference_count == 6


async def test_a_start_resets_the_state() -> None:
    async with scheduler_of() as scheduler:
        assert await sums(ask(scheduler, request(1, 1, "s"), request(1, 2), request(1, 5, "s"), request(1, 1))) == [
            *(1, 3),
            *(5, 6),
        ]


async def test_a_state_may_grow_and_then_sequences_are_executed_apart() -> None:
    state = SequenceState("all_in", "all_out", FP32, (-1,))
    plan = plan_of(states=(state,))
    async with scheduler_of(MEMORY, plan) as scheduler:
        first = [await task for task in ask(scheduler, request(1, 1, "s"), request(1, 2))]
        both = [await task for task in ask(scheduler, request(1, 3), request(2, 9, "s"))]
        assert [answer.outputs[0].tolist() for answer in first + both] == [
            [[0, 1]],
            [[0, 1, 2]],
            [[0, 1, 2, 3]],
            [[0, 9]],
        ]
        # The last two were ready at once, and each left the other's row empty.
        assert executions(scheduler) == {1: 2, 2: 2}


async def test_a_failed_request_leaves_its_sequence_and_its_companions_as_they_were() -> None:
    async with scheduler_of(CHECKED) as scheduler:

        def index(sequence_id: int, value: int, flags: str = "") -> GraphRequest:
            made = request(sequence_id, value, flags)
            return GraphRequest({"x": np.array([[value]])}, made.output_names, 1, sequence=made.sequence)

        assert await sums(ask(scheduler, index(1, 3, "s"), index(2, 2, "s"))) == [3, 2]
        failed, *others = await sums(ask(scheduler, index(1, 9), index(2, 1), index(1, 1)))
        assert failed in (InvalidArgument, Internal)
        assert others == [3, 4]


# -- direct ------------------------------------------------------------------------------------------------------------


async def test_what_is_ready_together_is_one_batch_up_to_the_highest_row_that_is_taken() -> None:
    async with scheduler_of() as scheduler:
        assert await sums(ask(scheduler, *(request(each, each, "s") for each in (1, 2, 3)))) == [1, 2, 3]
        assert executions(scheduler) == {3: 1}
        assert await sums(ask(scheduler, request(2, 5))) == [7]
        assert executions(scheduler) == {3: 2}


async def test_each_instance_has_its_rows() -> None:
    async with scheduler_of(plan=plan_of(lanes=2, rows=2), instances=2) as scheduler:
        assert await sums(ask(scheduler, *(request(each, each, "s") for each in (1, 2, 3)))) == [1, 2, 3]
        assert executions(scheduler) == {1: 1, 2: 1}


async def test_a_lane_waits_until_enough_of_its_slots_are_ready() -> None:
    async with scheduler_of(plan=plan_of(delay_ns=AN_HOUR_NS, utilization=0.5)) as scheduler:
        (first,) = ask(scheduler, request(1, 1, "s"))
        await asyncio.wait([first], timeout=0.01)
        assert not first.done()
        assert await sums([first, *ask(scheduler, request(2, 2, "s"))]) == [1, 2]
        assert executions(scheduler) == {2: 1}


async def test_a_lane_waits_no_longer_than_its_delay() -> None:
    delay_ns = 20_000_000
    async with scheduler_of(plan=plan_of(delay_ns=delay_ns, utilization=1.0)) as scheduler:
        (answer,) = await asyncio.gather(*ask(scheduler, request(1, 1, "s")))
        assert answer.queue_ns >= delay_ns


# -- oldest ------------------------------------------------------------------------------------------------------------


async def test_one_request_of_each_candidate_is_batched() -> None:
    async with scheduler_of(plan=plan_of(lanes=4, direct=False, delay_ns=AN_HOUR_NS)) as scheduler:
        tasks = ask(scheduler, *(request(each, each, "s") for each in range(1, 5)))
        tasks += ask(scheduler, *(request(each, 10) for each in range(1, 5)))
        assert await sums(tasks) == [1, 2, 3, 4, 11, 12, 13, 14]
        assert executions(scheduler) == {4: 2}


async def test_a_batch_that_would_wait_is_let_go_when_the_version_goes() -> None:
    async with scheduler_of(plan=plan_of(lanes=4, direct=False, delay_ns=AN_HOUR_NS)) as scheduler:
        tasks = ask(scheduler, request(1, 1, "s"), request(1, 2))
        await asyncio.sleep(0)
        scheduler.refuse_new()
        assert await sums(tasks) == [1, 3]


# -- the rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(1, 1), "inference request for sequence 1 to model 'm' must specify the START flag on the first"),
        (request(1, 1, "e"), "must specify the START flag"),
        (
            GraphRequest({"x": np.zeros((1, 1), np.float32)}, ("y",), 1),
            "inference request to model 'm' must specify a non-zero or non-empty correlation ID",
        ),
        (
            GraphRequest({"x": np.zeros((2, 1), np.float32)}, ("y",), 2, sequence=SequenceTerms(1, True)),
            "inference request to model 'm' must specify batch-size 1 due to requirements of sequence batcher",
        ),
    ],
)
async def test_a_request_that_is_none_of_a_sequence_is_refused(asked: GraphRequest, said: str) -> None:
    async with scheduler_of() as scheduler:
        with pytest.raises(InvalidArgument) as refused:
            await scheduler.infer(asked)
        assert said in refused.value.message
        with pytest.raises(InvalidArgument, match="must specify"):
            await scheduler.infer_in_parts(asked)
        assert failures(scheduler) == {FailureReason.BACKEND: 2}


async def test_after_its_end_a_sequence_has_to_start_again() -> None:
    async with scheduler_of() as scheduler:
        assert await sums(ask(scheduler, request(1, 1, "s"), request(1, 1, "e"), request(1, 1))) == [
            *(1, 2),
            InvalidArgument,
        ]


async def test_a_sequence_without_a_slot_waits_until_one_ends() -> None:
    async with scheduler_of(plan=plan_of(rows=1)) as scheduler:
        first = ask(scheduler, request(1, 1, "s"))
        waiting = ask(scheduler, request(2, 2, "s"), request(2, 3))
        assert await sums(first) == [1]
        await asyncio.wait(waiting, timeout=0.01)
        assert not any(task.done() for task in waiting)
        assert await sums([*ask(scheduler, request(1, 1, "e")), *waiting]) == [2, 2, 5]


async def test_an_idle_sequence_makes_room_and_has_to_start_again() -> None:
    idle_ns = 30_000_000
    async with scheduler_of(plan=plan_of(rows=1, idle_ns=idle_ns)) as scheduler:
        first = ask(scheduler, request(1, 1, "s"))
        waiting = ask(scheduler, request(2, 2, "s"))
        assert await sums([*first, *waiting]) == [1, 2]
        answer = await waiting[0]
        assert answer.queue_ns >= idle_ns
        assert await sums(ask(scheduler, request(1, 1))) == [InvalidArgument]


@pytest.mark.parametrize("limits", [QueueLimits(3), QueueLimits(1000, 12)])
async def test_what_waits_is_bounded(limits: QueueLimits) -> None:
    async with scheduler_of(plan=plan_of(rows=1), limits=limits) as scheduler:
        tasks = ask(scheduler, *(request(each, each, "se") for each in range(1, 6)))
        assert await sums(tasks) == [1, 2, 3, QueueFull, QueueFull]
        assert failures(scheduler) == {FailureReason.REJECTED: 2}


async def test_nothing_is_executed_before_enough_requests_wait() -> None:
    async with scheduler_of(limits=QueueLimits(1000, hold_until=3)) as scheduler:
        tasks = ask(scheduler, request(1, 1, "s"), request(1, 1))
        await asyncio.wait(tasks, timeout=0.01)
        assert scheduler.waiting_requests == 2
        assert await sums([*tasks, *ask(scheduler, request(2, 7, "s"))]) == [1, 2, 7]


# -- giving up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
async def test_cancelling_a_run_ends_it_and_its_sequence(direct: bool) -> None:
    async with scheduler_of(SLOW, plan_of(direct=direct)) as scheduler:
        running, behind = ask(scheduler, request(1, ENDLESS, "s", output="sum"), request(1, 1, output="sum"))
        await until_running(scheduler)
        running.cancel()
        assert await sums([running, behind]) == [asyncio.CancelledError, Cancelled]
        again = ask(scheduler, request(1, 1, output="sum"), request(1, 2, "s", output="sum"))
        assert await sums(again) == [InvalidArgument, 2]
        assert failures(scheduler) == {FailureReason.CANCELED: 2, FailureReason.BACKEND: 1}


async def test_one_cancelled_client_does_not_disturb_its_batch() -> None:
    async with scheduler_of(SLOW) as scheduler:
        steps = 20_000
        one, other = ask(scheduler, *(request(each, steps, "s", output="sum") for each in (1, 2)))
        await until_running(scheduler)
        one.cancel()
        assert await sums([one, other]) == [asyncio.CancelledError, steps]


async def test_a_client_that_goes_at_once_costs_nothing() -> None:
    async with scheduler_of() as scheduler:
        tasks = ask(scheduler, request(1, 1, "s"), request(1, 2))
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await sums(tasks) == [asyncio.CancelledError, Cancelled]
        assert executions(scheduler) == {}


async def test_a_request_that_is_lost_twice_takes_no_one_before_it_along() -> None:
    async with scheduler_of(SLOW) as scheduler:
        first, second, third, fourth = ask(
            scheduler, request(1, 20_000, "s", output="sum"), *(request(1, 1, output="sum") for _ in range(3))
        )
        await until_running(scheduler)
        # The fourth is lost with the third, and then by its own client.
        third.cancel()
        fourth.cancel()
        assert await sums([first, second]) == [20_000, 20_001]
        assert await sums([third, fourth]) == [asyncio.CancelledError] * 2


async def test_a_client_that_goes_between_a_batch_and_its_task_leaves_the_lane_usable() -> None:
    async with scheduler_of() as scheduler:
        (task,) = ask(scheduler, request(1, 1, "s"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.sleep(0)
        assert await sums([task, *ask(scheduler, request(2, 2, "s"), request(1, 3, "s"))]) in (
            [asyncio.CancelledError, 2, 3],
            [1, 2, 3],
        )


async def test_a_deadline_is_kept_while_the_model_runs() -> None:
    async with scheduler_of(SLOW) as scheduler:
        limits = RequestLimits(deadline_ns=time.monotonic_ns() + 50_000_000)
        asked = [request(1, ENDLESS, "s", limits, "sum"), request(1, 1, output="sum"), request(1, 2, "s", output="sum")]
        assert await sums(ask(scheduler, *asked)) == [DeadlineExceeded, Cancelled, 2]


@pytest.mark.parametrize(
    ("first", "text"),
    [
        # Behind another request of the same sequence, or in the backlog.
        (1, "Request timeout expired"),
        (2, "timeout of the corresponding sequence has been expired"),
    ],
)
async def test_a_request_waits_no_longer_than_it_allows(first: int, text: str) -> None:
    async with scheduler_of(SLOW, plan_of(rows=1)) as scheduler:
        running = ask(scheduler, request(first, ENDLESS, "s", output="sum"))
        started = request(1, 1, "s" if first == 2 else "", RequestLimits(timeout_us=10_000), "sum")
        late, behind = ask(scheduler, started, request(1, 1, output="sum"))
        with pytest.raises(RequestTimeout) as refused:
            await late
        assert refused.value.message == text
        assert await sums([behind]) == [RequestTimeout]
        running[0].cancel()


async def test_a_run_that_hangs_is_ended_from_outside() -> None:
    async with scheduler_of(SLOW) as scheduler:
        tasks = ask(scheduler, *(request(each, ENDLESS, "s", output="sum") for each in (1, 2)))
        await until_running(scheduler)
        running = scheduler.instances[0].running
        assert running is not None
        scheduler.fail_running(running, DeadlineExceeded("too long"))
        assert await sums(tasks) == [DeadlineExceeded, DeadlineExceeded]


# -- ending ------------------------------------------------------------------------------------------------------------


async def test_what_is_inside_is_answered_also_what_waits_for_a_slot() -> None:
    async with scheduler_of(plan=plan_of(rows=1)) as scheduler:
        assert await sums(ask(scheduler, request(1, 1, "s"))) == [1]
        tasks = ask(scheduler, request(2, 2, "s"), request(3, 3, "s"), request(1, 5))
        await asyncio.sleep(0)
        scheduler.refuse_new()
        assert await sums(tasks) == [2, 3, 6]
        with pytest.raises(Unavailable, match="has stopped accepting new inference requests"):
            await scheduler.infer(request(1, 1, "s"))


# -- any order ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 9), st.sampled_from(["", "", "", "s", "e"])), max_size=30
    ),
    direct=st.booleans(),
    lanes=st.integers(1, 2),
    ordered=st.booleans(),
    turns=st.integers(0, 3),
)
def test_any_interleaving_gives_each_sequence_the_sums_that_it_would_have_alone(
    asked: list[tuple[int, int, str]], direct: bool, lanes: int, ordered: bool, turns: int
) -> None:
    """A naive model of it: the running total of each id, which a start resets and an end forgets."""
    totals: dict[int, int] = {}
    expected: list[object] = []
    for sequence_id, value, flags in asked:
        if "s" in flags:
            totals[sequence_id] = 0
        if sequence_id not in totals:
            expected.append(InvalidArgument)
            continue
        totals[sequence_id] += value
        expected.append(totals[sequence_id])
        if "e" in flags:
            del totals[sequence_id]

    async def run() -> list[object]:
        plan = plan_of(lanes=lanes, rows=2, direct=direct, ordered=ordered)
        async with scheduler_of(plan=plan, instances=2) as scheduler:
            tasks: list[Asked] = []
            for sequence_id, value, flags in asked:
                tasks += ask(scheduler, request(sequence_id, value, flags))
                for _ in range(turns):
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            # Sequences that have not ended make room for those in the backlog.
            scheduler.refuse_new()
            return await sums(tasks)

    assert asyncio.run(run()) == expected
