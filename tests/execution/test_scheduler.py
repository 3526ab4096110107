"""One version's requests from asyncio: each is answered exactly once, alone, and counted exactly."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

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
from ortolan.execution.cost_curve import CurveBook, CurvePoint
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.graph_request import NO_LIMITS, GraphRequest, RequestLimits
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.model_statistics import FailureReason
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind, QueuePolicy, TimeoutAction

A_WHILE_S = 30.0
AN_HOUR_US = 3_600 * 10**6
MILLISECOND = 1_000_000
# A run that ends by itself takes this long at least: minutes, so that one that is over sooner was ended.
ENDLESS = 1e9
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
BATCHED = Batching(64)
Asked = asyncio.Task[Answer]


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


GATHER = session_of(onnx_models.gather())
DOUBLER = session_of(onnx_models.doubler())
SLOW_AS_ASKED = session_of(onnx_models.slow_as_asked())


def plan_of(batching: Batching = BATCHED, line: LinePolicy | None = None, **more: object) -> SchedulingPlan:
    return SchedulingPlan(batching, line or LinePolicy(), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def scheduler_of(
    session: Session,
    plan: SchedulingPlan | None = None,
    limits: QueueLimits | None = None,
    instances: int = 1,
    share: DeviceShare | None = None,
) -> AsyncIterator[Scheduler]:
    """A scheduler that is not started yet: what is asked before ``start`` waits, so that batches are known."""
    share = share or DeviceShare(2)
    sessions = [(f"m_{number}", session, share) for number in range(instances)]
    scheduler = Scheduler("m", sessions, plan or plan_of(), limits or QueueLimits(1000), asyncio.get_running_loop())
    yield scheduler
    scheduler.refuse_new()
    assert await asyncio.to_thread(scheduler.join, A_WHILE_S)
    assert scheduler.waiting_requests == 0
    assert scheduler.in_flight_requests == 0


def index(value: int) -> dict[str, Array]:
    return {"x": np.array([[value]])}


def rows(*values: float) -> dict[str, Array]:
    return {"x": np.array([[value] * 4 for value in values], np.float32)}


async def asked(
    scheduler: Scheduler,
    requests: Iterable[dict[str, Array]],
    shapes: object = None,
    limits: RequestLimits = NO_LIMITS,
) -> list[Asked]:
    """A task for each request, all of which are in the queue when this returns."""
    tasks = [
        asyncio.create_task(scheduler.infer(GraphRequest(inputs, ("y",), len(inputs["x"]), shapes, limits)))
        for inputs in requests
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def outputs(tasks: Iterable[Asked]) -> list[float]:
    """The first number of each answer."""
    return [(await task).outputs[0].flat[0] for task in tasks]


async def kinds(tasks: Iterable[Asked]) -> list[type]:
    return [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)]


async def until_taken(scheduler: Scheduler) -> None:
    while scheduler.waiting_requests:  # noqa: ASYNC110 - an instance's thread takes them, and tells nobody
        await asyncio.sleep(0)


async def until_running(scheduler: Scheduler) -> None:
    while not any(instance.running for instance in scheduler.instances):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)


async def until_idle(scheduler: Scheduler) -> None:
    while any(instance.running for instance in scheduler.instances):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)


def failures(scheduler: Scheduler) -> dict[FailureReason, int]:
    return {reason: count for reason, count in scheduler.statistics.failures.items() if count}


def executed_rows(scheduler: Scheduler) -> dict[int, int]:
    """For each number of rows, how many executions had it."""
    return {size: batch.compute_infer.count for size, batch in scheduler.statistics.batches.items()}


# -- batches -----------------------------------------------------------------------------------------------------------


async def test_63_good_requests_and_a_bad_one_are_63_answers_and_one_error() -> None:
    async with scheduler_of(GATHER) as scheduler:
        tasks = await asked(scheduler, [index(9 if number == 40 else number % 4) for number in range(64)])
        scheduler.start()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [(number, result) for number, result in enumerate(results) if isinstance(result, BaseException)]
        assert [(number, type(error)) for number, error in errors] == [(40, InvalidArgument)]
        assert "idx=9" in str(errors[0][1])
        good = [result.outputs[0].item() for result in results if not isinstance(result, BaseException)]
        assert good == [number % 4 for number in range(64) if number != 40]

        statistics = scheduler.statistics
        assert (statistics.inference_count, statistics.execution_count) == (63, 63)
        assert executed_rows(scheduler) == {1: 63}
        assert (statistics.success.count, statistics.fail.count) == (63, 1)
        assert failures(scheduler) == {FailureReason.BACKEND: 1}
        assert statistics.queue.count == statistics.compute_infer.count == 63


async def test_a_batch_is_one_execution_of_all_its_rows() -> None:
    async with scheduler_of(DOUBLER, plan_of(Batching(4))) as scheduler:
        tasks = await asked(scheduler, [rows(1), rows(2, 3), rows(4), rows(5, 6), rows(7)])
        scheduler.start()
        answers = [await task for task in tasks]
        assert [answer.outputs[0][:, 0].tolist() for answer in answers] == [[2], [4, 6], [8], [10, 12], [14]]
        assert [answer.batch_rows for answer in answers] == [4, 4, 4, 3, 3]
        assert all(answer.queue_ns > 0 and answer.compute_ns > 0 for answer in answers)
        statistics = scheduler.statistics
        assert (statistics.inference_count, statistics.execution_count) == (7, 2)
        assert executed_rows(scheduler) == {4: 1, 3: 1}
        assert statistics.success.count == statistics.queue.count == 5
        assert statistics.fail.count == 0
        assert statistics.last_inference_ms > 0
        assert statistics.success.ns >= statistics.queue.ns + statistics.compute_infer.ns


async def test_requests_of_different_shapes_are_different_executions() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        first = await asked(scheduler, [rows(1), rows(2)], shapes="a")
        second = await asked(scheduler, [rows(3)], shapes="b")
        scheduler.start()
        assert await outputs([*first, *second]) == [2, 4, 6]
        assert executed_rows(scheduler) == {2: 1, 1: 1}


async def test_a_free_instance_never_waits_and_takes_what_pays() -> None:
    """By this curve 4 rows are as good as 16."""
    curves = CurveBook([CurvePoint(1, 4000), CurvePoint(4, 4000), CurvePoint(16, 16_000)], 16, rows_vary=False)
    async with scheduler_of(DOUBLER, plan_of(Batching(16), curves=curves)) as scheduler:
        tasks = await asked(scheduler, [rows(number) for number in range(16)])
        scheduler.start()
        assert await outputs(tasks) == [2 * number for number in range(16)]
        assert max(executed_rows(scheduler)) == 4


async def test_what_it_measures_while_serving_refines_the_curve() -> None:
    curves = CurveBook([CurvePoint(1, 10**12)], 1, rows_vary=False)
    async with scheduler_of(DOUBLER, plan_of(Batching(), curves=curves)) as scheduler:
        scheduler.start()
        await outputs(await asked(scheduler, [rows(1)] * 5))
        assert curves.base.duration_ns(1) < 10**12


async def test_several_instances_answer_many_clients_each_its_own() -> None:
    async with scheduler_of(DOUBLER, plan_of(Batching(8)), instances=3) as scheduler:
        scheduler.start()

        async def client(number: int) -> None:
            for turn in range(20):
                value = number * 100 + turn
                answer = await scheduler.infer(GraphRequest(rows(value), ("y",), 1))
                assert answer.outputs[0].tolist() == [[2 * value] * 4]

        await asyncio.gather(*(client(number) for number in range(20)))
        statistics = scheduler.statistics
        assert statistics.inference_count == statistics.success.count == 400
        assert sum(executed_rows(scheduler).values()) == statistics.execution_count
        assert sum(size * count for size, count in executed_rows(scheduler).items()) == 400


async def test_outputs_come_in_the_order_in_which_they_were_asked_for() -> None:
    proto = onnx_models.model(
        [onnx.helper.make_node("Neg", ["x"], ["a"]), onnx.helper.make_node("Abs", ["x"], ["b"])],
        [("x", 1, ["batch", 4])],
        [("a", 1, ["batch", 4]), ("b", 1, ["batch", 4])],
    )
    async with scheduler_of(session_of(proto)) as scheduler:
        scheduler.start()
        b, a = (await scheduler.infer(GraphRequest(rows(3), ("b", "a"), 1))).outputs
        assert (b[0, 0], a[0, 0]) == (3, -3)


# -- order -------------------------------------------------------------------------------------------------------------


async def answered_in_order(tasks: Sequence[Asked]) -> list[int]:
    """The indices of ``tasks`` in the order in which they were done."""
    order: list[int] = []
    for number, task in enumerate(tasks):
        task.add_done_callback(lambda _, number=number: order.append(number))
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    return order


async def test_priority_levels_are_served_in_their_order_and_each_first_in_first_out() -> None:
    """Of three levels with 2 as the default; 0 and 9 are no levels."""
    async with scheduler_of(DOUBLER, plan_of(Batching(), LinePolicy(levels=3, default_level=2))) as scheduler:
        tasks = [
            (await asked(scheduler, [rows(1)], limits=RequestLimits(priority)))[0] for priority in (3, 2, 1, 0, 3, 9, 1)
        ]
        scheduler.start()
        assert await answered_in_order(tasks) == [2, 6, 1, 3, 5, 0, 4]


async def test_answers_keep_the_order_of_their_requests_where_that_is_asked_for() -> None:
    for ordered, expected in ((True, [0, 1, 2]), (False, [1, 2, 0])):
        plan = plan_of(Batching(), preserve_ordering=ordered)
        async with scheduler_of(SLOW_AS_ASKED, plan, instances=2) as scheduler:
            tasks = await asked(scheduler, [rows(300_000), rows(1), rows(2)])
            scheduler.start()
            assert await answered_in_order(tasks) == expected


async def test_who_gives_up_or_is_refused_holds_up_no_answer_and_waits_for_none() -> None:
    plan = plan_of(Batching(), preserve_ordering=True)
    async with scheduler_of(SLOW_AS_ASKED, plan, QueueLimits(3), instances=2) as scheduler:
        endless, given_up, last, refused = await asked(scheduler, [rows(ENDLESS), rows(1), rows(2), rows(3)])
        assert await kinds([refused]) == [QueueFull]
        given_up.cancel()
        (late,) = await asked(scheduler, [rows(4)], limits=RequestLimits(deadline_ns=time.monotonic_ns() + MILLISECOND))
        assert await kinds([late]) == [DeadlineExceeded]
        scheduler.start()
        await until_taken(scheduler)
        assert not last.done()  # its answer waits for that of the first
        endless.cancel()
        assert await outputs([last]) == [2]


# -- who gives up ------------------------------------------------------------------------------------------------------


async def test_a_cancelled_request_is_never_executed_and_does_not_disturb_its_batch() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        tasks = await asked(scheduler, [rows(number) for number in range(6)])
        for task in tasks[1::2]:
            task.cancel()
        results = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert scheduler.waiting_requests == 3
        scheduler.start()
        found = await results
        assert [result.outputs[0][0, 0] for result in found[::2] if isinstance(result, Answer)] == [0, 4, 8]
        assert all(isinstance(result, asyncio.CancelledError) for result in found[1::2])
        assert executed_rows(scheduler) == {3: 1}
        assert (scheduler.statistics.inference_count, scheduler.statistics.success.count) == (3, 3)
        assert failures(scheduler) == {FailureReason.CANCELED: 3}


async def test_of_a_hundred_cancelled_requests_none_is_executed() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        tasks = await asked(scheduler, [rows(1)] * 100)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        scheduler.start()
        assert await outputs(await asked(scheduler, [rows(5)])) == [10]
        assert executed_rows(scheduler) == {1: 1}
        assert failures(scheduler) == {FailureReason.CANCELED: 100}


async def test_a_request_that_is_cancelled_before_it_is_in_the_queue_never_gets_there() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        task = asyncio.create_task(scheduler.infer(GraphRequest(rows(1), ("y",), 1)))
        await asyncio.sleep(0)
        assert scheduler.waiting_requests == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert scheduler.waiting_requests == 0
        assert failures(scheduler) == {FailureReason.CANCELED: 1}
        scheduler.start()


async def test_a_request_that_is_cancelled_while_it_runs_does_not_disturb_its_batch() -> None:
    async with scheduler_of(session_of(onnx_models.slow(300_000))) as scheduler:
        given_up, kept = await asked(scheduler, [rows(1), rows(2)])
        scheduler.start()
        await until_running(scheduler)
        given_up.cancel()
        assert (await kept).outputs[0].tolist() == [[2] * 4]
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert executed_rows(scheduler) == {2: 1}
        assert (scheduler.statistics.inference_count, scheduler.statistics.success.count) == (1, 1)
        assert failures(scheduler) == {FailureReason.CANCELED: 1}


async def test_a_run_that_no_one_waits_for_is_ended_and_the_session_goes_on() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        tasks = await asked(scheduler, [rows(ENDLESS), rows(1)])
        scheduler.start()
        await until_running(scheduler)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await outputs(await asked(scheduler, [rows(3)])) == [3]
        assert executed_rows(scheduler) == {1: 1}
        assert failures(scheduler) == {FailureReason.CANCELED: 2}


async def test_a_deadline_ends_a_run_and_the_session_goes_on() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        scheduler.start()
        deadline_ns = time.monotonic_ns() + 50 * MILLISECOND
        (late,) = await asked(scheduler, [rows(ENDLESS)], limits=RequestLimits(deadline_ns=deadline_ns))
        with pytest.raises(DeadlineExceeded, match="deadline passed before its answer was ready"):
            await late
        assert time.monotonic_ns() > deadline_ns - 2 * MILLISECOND
        assert await outputs(await asked(scheduler, [rows(3)])) == [3]
        assert executed_rows(scheduler) == {1: 1}


async def test_a_deadline_is_kept_in_the_queue_also() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        deadline_ns = time.monotonic_ns() + 5 * MILLISECOND
        tasks = await asked(scheduler, [rows(1)] * 3, limits=RequestLimits(deadline_ns=deadline_ns))
        (patient,) = await asked(scheduler, [rows(2)])
        assert await kinds(tasks) == [DeadlineExceeded] * 3
        assert scheduler.waiting_requests == 1
        scheduler.start()
        assert await outputs([patient]) == [4]
        assert failures(scheduler) == {FailureReason.REJECTED: 3}


async def test_a_deadline_that_has_passed_is_refused_at_the_door() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        assert await kinds(await asked(scheduler, [rows(1)], limits=RequestLimits(deadline_ns=1))) == [DeadlineExceeded]
        scheduler.start()


@pytest.mark.parametrize(
    ("policy", "declared", "timeout_us"),
    [
        (QueuePolicy(), False, 1000),  # the request's own
        (QueuePolicy(default_timeout_us=1000), True, 0),  # the policy's
        (QueuePolicy(default_timeout_us=AN_HOUR_US, allow_timeout_override=True), True, 1000),
    ],
)
async def test_a_request_whose_time_in_the_queue_is_over_is_refused_at_once(
    policy: QueuePolicy, declared: bool, timeout_us: int
) -> None:
    """No instance has started, so that only a timer can tell."""
    async with scheduler_of(DOUBLER, plan_of(line=LinePolicy(default=policy, declared=declared))) as scheduler:
        (task,) = await asked(scheduler, [rows(1)], limits=RequestLimits(timeout_us=timeout_us))
        with pytest.raises(RequestTimeout, match="Request timeout expired"):
            await task
        assert scheduler.waiting_requests == 0
        scheduler.start()
        assert executed_rows(scheduler) == {}
        assert failures(scheduler) == {FailureReason.REJECTED: 1}


@pytest.mark.parametrize(
    "policy",
    [
        QueuePolicy(default_timeout_us=AN_HOUR_US),  # it may not override
        QueuePolicy(allow_timeout_override=True),  # there is nothing to override
        QueuePolicy(TimeoutAction.DELAY, default_timeout_us=AN_HOUR_US, allow_timeout_override=True),  # only delayed
    ],
)
async def test_a_requests_own_time_does_not_count_where_the_policy_does_not_let_it(policy: QueuePolicy) -> None:
    async with scheduler_of(DOUBLER, plan_of(line=LinePolicy(default=policy, declared=True))) as scheduler:
        (task,) = await asked(scheduler, [rows(1)], limits=RequestLimits(timeout_us=1))
        await asyncio.wait([task], timeout=0.02)
        scheduler.start()
        assert await outputs([task]) == [2]


async def test_a_run_that_has_begun_is_not_ended_by_the_time_that_its_request_may_wait() -> None:
    async with scheduler_of(session_of(onnx_models.slow(30_000))) as scheduler:
        scheduler.start()
        assert await outputs(await asked(scheduler, [rows(1)], limits=RequestLimits(timeout_us=10_000))) == [1]


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_the_request_beyond_the_capacity_is_refused_at_the_door() -> None:
    async with scheduler_of(DOUBLER, limits=QueueLimits(4)) as scheduler:
        tasks = await asked(scheduler, [rows(1)] * 6)
        assert await kinds(tasks[4:]) == [QueueFull, QueueFull]
        assert not any(task.done() for task in tasks[:4])
        with pytest.raises(QueueFull, match="Exceeds maximum queue size: 4 requests"):
            await tasks[4]
        scheduler.start()
        assert await outputs(tasks[:4]) == [2] * 4
        assert failures(scheduler) == {FailureReason.REJECTED: 2}
        assert scheduler.statistics.fail.count == 2


async def test_a_cancelled_request_makes_room() -> None:
    async with scheduler_of(DOUBLER, limits=QueueLimits(1)) as scheduler:
        (first,) = await asked(scheduler, [rows(1)])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        (second,) = await asked(scheduler, [rows(2)])
        scheduler.start()
        assert await outputs([second]) == [4]


async def test_strings_count_by_their_bytes() -> None:
    identity = session_of(onnx_models.identity(onnx.TensorProto.STRING, ["batch", 1]))
    long, short = np.array([[b"x" * 100]], object), np.array([[b"x"]], object)
    async with scheduler_of(identity, limits=QueueLimits(max_bytes=105)) as scheduler:
        tasks = await asked(scheduler, [{"x": long}, {"x": short}, {"x": long}])
        assert await kinds(tasks[2:]) == [QueueFull]
        scheduler.start()
        assert await outputs(tasks[:2]) == [b"x" * 100, b"x"]


# -- in place ----------------------------------------------------------------------------------------------------------


def inline_plan(limit_ns: int = 10**9, row_ns: int = 1000) -> SchedulingPlan:
    points = [CurvePoint(1, row_ns), CurvePoint(8, 8 * row_ns)]
    return plan_of(
        Batching(8), curves=CurveBook(points, 8, rows_vary=False), inline_gate=InlineGate(points, 8, limit_ns)
    )


async def test_a_small_model_is_run_where_it_is_with_the_same_answers_and_statistics() -> None:
    """The threads are never started, so that only the loop can have run it."""
    async with scheduler_of(DOUBLER, inline_plan()) as scheduler:
        tasks = await asked(scheduler, [rows(1), rows(2, 3)])
        answers = [await task for task in tasks]
        assert [answer.outputs[0].tolist() for answer in answers] == [[[2] * 4], [[4] * 4, [6] * 4]]
        assert [answer.batch_rows for answer in answers] == [3, 3]
        assert await outputs(await asked(scheduler, [rows(4)])) == [8]
        statistics = scheduler.statistics
        assert (statistics.inference_count, statistics.execution_count) == (4, 2)
        assert (statistics.success.count, statistics.fail.count) == (3, 0)
        assert statistics.queue.count == statistics.compute_infer.count == 3
        assert executed_rows(scheduler) == {3: 1, 1: 1}
        scheduler.start()


async def test_a_batch_that_is_run_in_place_is_taken_apart_when_it_fails() -> None:
    async with scheduler_of(GATHER, inline_plan()) as scheduler:
        results = await asyncio.gather(*await asked(scheduler, map(index, (1, 9, 3))), return_exceptions=True)
        assert [type(result) for result in results] == [Answer, InvalidArgument, Answer]
        assert failures(scheduler) == {FailureReason.BACKEND: 1}
        scheduler.start()


@pytest.mark.parametrize(
    ("requests", "shapes"),
    [
        ([rows(*range(5)), rows(*range(5))], ["a", "a"]),  # more rows than a batch may have
        ([rows(1), rows(1)], ["a", "b"]),
    ],
)
async def test_what_is_no_single_batch_runs_as_several(
    requests: Sequence[dict[str, Array]], shapes: Sequence[str]
) -> None:
    async with scheduler_of(DOUBLER, inline_plan()) as scheduler:
        tasks = [
            asyncio.create_task(scheduler.infer(GraphRequest(inputs, ("y",), len(inputs["x"]), shape)))
            for inputs, shape in zip(requests, shapes, strict=True)
        ]
        answers = await asyncio.gather(*tasks)
        assert [answer.batch_rows for answer in answers] == [len(inputs["x"]) for inputs in requests]
        scheduler.start()


async def test_what_comes_when_one_waits_for_an_instance_does_not_overtake_it() -> None:
    async with scheduler_of(DOUBLER, inline_plan(limit_ns=3000)) as scheduler:
        (large,) = await asked(scheduler, [rows(*range(8))])
        (small,) = await asked(scheduler, [rows(1)])
        assert scheduler.waiting_requests == 2
        scheduler.start()
        await asyncio.gather(large, small)


async def test_of_a_tick_that_brings_very_many_batches_the_last_wait_for_an_instance() -> None:
    async with scheduler_of(DOUBLER, inline_plan()) as scheduler:
        tasks = await asked(scheduler, [rows(*range(8))] * 12)
        assert 0 < scheduler.waiting_requests < 12
        scheduler.start()
        await asyncio.gather(*tasks)


async def test_what_costs_more_than_the_limit_waits_for_an_instance() -> None:
    async with scheduler_of(DOUBLER, inline_plan(limit_ns=3000)) as scheduler:
        tasks = await asked(scheduler, [rows(*range(8))])
        assert scheduler.waiting_requests == 1
        scheduler.start()
        await asyncio.gather(*tasks)


async def test_what_costs_more_than_the_limit_as_one_batch_runs_as_several() -> None:
    async with scheduler_of(DOUBLER, inline_plan(limit_ns=3 * 10**8, row_ns=10**8)) as scheduler:
        answers = await asyncio.gather(*await asked(scheduler, [rows(value) for value in range(8)]))
        assert [answer.outputs[0][0, 0] for answer in answers] == [2 * value for value in range(8)]
        # Of eight a quarter may run, of the six behind them a half.
        assert [answer.batch_rows for answer in answers] == [2] * 2 + [3] * 6
        assert scheduler.waiting_requests == 0
        scheduler.start()


async def test_a_scheduler_that_is_closed_runs_nothing_in_place_either() -> None:
    async with scheduler_of(DOUBLER, inline_plan()) as scheduler:
        scheduler.start()
        scheduler.refuse_new()
        assert await kinds(await asked(scheduler, [rows(1)])) == [Unavailable]
        assert executed_rows(scheduler) == {}


async def test_a_test_that_holds_the_queue_holds_what_would_be_run_in_place_also() -> None:
    async with scheduler_of(DOUBLER, inline_plan(), QueueLimits(hold_until=2)) as scheduler:
        scheduler.start()
        tasks = await asked(scheduler, [rows(1)])
        assert scheduler.waiting_requests == 1
        tasks += await asked(scheduler, [rows(2)])
        assert await outputs(tasks) == [2, 4]


# -- devices -----------------------------------------------------------------------------------------------------------


async def test_a_model_with_a_long_queue_does_not_starve_another_on_the_same_device() -> None:
    """The heavy one has 100 runs ahead of it; each of the light one's waits for one of them at most."""
    share = DeviceShare(1)
    async with (
        scheduler_of(session_of(onnx_models.slow(5_000)), plan_of(Batching()), share=share) as heavy,
        scheduler_of(DOUBLER, share=share) as light,
    ):
        backlog = await asked(heavy, [rows(1)] * 100)
        heavy.start()
        light.start()
        for number in range(10):
            assert await outputs(await asked(light, [rows(number)])) == [2 * number]
        assert heavy.waiting_requests > 50
        await asyncio.gather(*backlog)


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_a_scheduler_that_is_closed_refuses_and_still_answers_what_is_inside() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        tasks = await asked(scheduler, [rows(1), rows(2)])
        scheduler.refuse_new()
        with pytest.raises(Unavailable, match="stopped accepting new inference requests"):
            await scheduler.infer(GraphRequest(rows(3), ("y",), 1))
        scheduler.start()
        assert await outputs(tasks) == [2, 4]
        assert failures(scheduler) == {FailureReason.OTHER: 1}


async def test_what_came_just_before_the_end_is_still_answered() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        task = asyncio.create_task(scheduler.infer(GraphRequest(rows(1), ("y",), 1)))
        await asyncio.sleep(0)  # it is on its way into the queue
        scheduler.refuse_new()
        scheduler.start()
        assert await outputs([task]) == [2]


async def test_drained_waits_for_everything_that_is_inside() -> None:
    async with scheduler_of(session_of(onnx_models.slow(20_000)), plan_of(Batching())) as scheduler:
        await scheduler.drained()  # nothing is inside yet
        tasks = await asked(scheduler, [rows(1), rows(2)])
        scheduler.refuse_new()
        drained = asyncio.create_task(scheduler.drained())
        await asyncio.sleep(0)
        assert not drained.done()
        assert scheduler.in_flight_requests == 2
        scheduler.start()
        await drained
        assert all(task.done() for task in tasks)
        assert scheduler.in_flight_requests == 0


async def test_join_says_whether_the_instances_have_ended() -> None:
    async with scheduler_of(DOUBLER, instances=2) as scheduler:
        scheduler.start()
        assert not scheduler.join(0)
        scheduler.refuse_new()
        assert await asyncio.to_thread(scheduler.join, A_WHILE_S)


async def test_a_run_that_is_failed_from_outside_answers_all_its_requests_at_once() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        tasks = await asked(scheduler, [rows(ENDLESS), rows(1)])
        scheduler.start()
        await until_running(scheduler)
        running = scheduler.instances[0].running
        assert running is not None
        scheduler.fail_running(running, Internal("enough"))
        assert await kinds(tasks) == [Internal, Internal]
        await until_idle(scheduler)
        assert await outputs(await asked(scheduler, [rows(3)])) == [3]
        assert executed_rows(scheduler) == {1: 1}


async def test_whatever_happens_each_request_ends_once_and_is_counted_once() -> None:
    """Good and bad requests, short deadlines, cancellations, a bound and a close, all at the same time."""
    async with scheduler_of(GATHER, plan_of(Batching(4)), QueueLimits(16), instances=2) as scheduler:
        scheduler.start()
        ends: list[type] = []

        async def client(number: int) -> None:
            for turn in range(25):
                what = (number * 25 + turn) % 7
                deadline_ns = time.monotonic_ns() + MILLISECOND // 4 if what == 1 else 0
                limits = RequestLimits(deadline_ns=deadline_ns, timeout_us=500 if what == 2 else 0)
                task = asyncio.create_task(
                    scheduler.infer(GraphRequest(index(9 if what == 3 else turn % 4), ("y",), 1, None, limits))
                )
                await asyncio.sleep(0)
                if what == 4:
                    task.cancel()
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    assert (await task).outputs[0].item() == turn % 4
                ends.append(asyncio.CancelledError if task.cancelled() else type(task.exception()))
                if (number, turn) == (0, 20):
                    scheduler.refuse_new()

        await asyncio.gather(*(client(number) for number in range(24)))
        statistics = scheduler.statistics
        good = ends.count(type(None))
        assert len(ends) == 24 * 25
        assert (statistics.success.count, statistics.fail.count) == (good, len(ends) - good)
        assert statistics.inference_count >= good
        expected = {InvalidArgument, QueueFull, RequestTimeout, DeadlineExceeded, Unavailable, asyncio.CancelledError}
        assert set(ends) <= {type(None), *expected}
        assert Cancelled not in ends
