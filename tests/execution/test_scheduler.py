"""One version's requests from asyncio: each is answered exactly once, alone, and counted exactly."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.errors import InvalidArgument, QueueFull, Unavailable
from ortolan.execution.batch_policy import Batching
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_statistics import FailureReason
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind

A_WHILE_S = 30.0
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
BATCHED = Batching(64)
Answer = asyncio.Task[list[Array]]


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


GATHER = session_of(onnx_models.gather())
DOUBLER = session_of(onnx_models.doubler())


@asynccontextmanager
async def scheduler_of(
    session: Session, batching: Batching = BATCHED, capacity: int = 1000, instances: int = 1
) -> AsyncIterator[Scheduler]:
    """A scheduler that is not started yet: what is asked before ``start`` waits, so that batches are known."""
    sessions = [(f"m_{number}", session) for number in range(instances)]
    scheduler = Scheduler(sessions, batching, capacity, asyncio.get_running_loop())
    yield scheduler
    scheduler.refuse_new()
    assert await asyncio.to_thread(scheduler.join, A_WHILE_S)
    assert scheduler.waiting_requests == 0
    assert scheduler.in_flight_requests == 0


def index(value: int) -> dict[str, Array]:
    return {"x": np.array([[value]])}


def rows(*values: float) -> dict[str, Array]:
    return {"x": np.array([[value] * 4 for value in values], np.float32)}


async def asked(scheduler: Scheduler, requests: Iterable[dict[str, Array]], shapes: object = None) -> list[Answer]:
    """A task for each request, all of which are in the queue when this returns."""
    tasks = [asyncio.create_task(scheduler.infer(inputs, ("y",), len(inputs["x"]), shapes)) for inputs in requests]
    await asyncio.sleep(0)
    return tasks


def failures(scheduler: Scheduler) -> dict[FailureReason, int]:
    return {reason: count for reason, count in scheduler.statistics.failures.items() if count}


def executed_rows(scheduler: Scheduler) -> dict[int, int]:
    """For each number of rows, how many executions had it."""
    return {size: batch.compute_infer.count for size, batch in scheduler.statistics.batches.items()}


async def test_63_good_requests_and_a_bad_one_are_63_answers_and_one_error() -> None:
    async with scheduler_of(GATHER) as scheduler:
        tasks = await asked(scheduler, [index(9 if number == 40 else number % 4) for number in range(64)])
        scheduler.start()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [(number, result) for number, result in enumerate(results) if isinstance(result, BaseException)]
        assert [(number, type(error)) for number, error in errors] == [(40, InvalidArgument)]
        assert "idx=9" in str(errors[0][1])
        good = [result[0].item() for result in results if not isinstance(result, BaseException)]
        assert good == [number % 4 for number in range(64) if number != 40]

        statistics = scheduler.statistics
        assert (statistics.inference_count, statistics.execution_count) == (63, 63)
        assert executed_rows(scheduler) == {1: 63}
        assert (statistics.success.count, statistics.fail.count) == (63, 1)
        assert failures(scheduler) == {FailureReason.BACKEND: 1}
        assert statistics.queue.count == statistics.compute_infer.count == 63


async def test_a_batch_is_one_execution_of_all_its_rows() -> None:
    async with scheduler_of(DOUBLER, Batching(4)) as scheduler:
        tasks = await asked(scheduler, [rows(1), rows(2, 3), rows(4), rows(5, 6), rows(7)])
        scheduler.start()
        results = [(await task)[0][:, 0].tolist() for task in tasks]
        assert results == [[2], [4, 6], [8], [10, 12], [14]]
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
        assert [(await task)[0][0, 0] for task in (*first, *second)] == [2, 4, 6]
        assert executed_rows(scheduler) == {2: 1, 1: 1}


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
        assert [result[0][0, 0] for result in found[::2] if not isinstance(result, BaseException)] == [0, 4, 8]
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
        assert (await (await asked(scheduler, [rows(5)]))[0])[0][0, 0] == 10
        assert executed_rows(scheduler) == {1: 1}
        assert failures(scheduler) == {FailureReason.CANCELED: 100}


async def until_taken(scheduler: Scheduler) -> None:
    while scheduler.waiting_requests:  # noqa: ASYNC110 - an instance's thread takes them, and tells nobody
        await asyncio.sleep(0)


async def test_a_request_that_is_cancelled_while_it_runs_does_not_disturb_its_batch() -> None:
    async with scheduler_of(session_of(onnx_models.slow(300_000))) as scheduler:
        given_up, kept = await asked(scheduler, [rows(1), rows(2)])
        scheduler.start()
        await until_taken(scheduler)
        given_up.cancel()
        assert (await kept)[0].tolist() == [[2] * 4]
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert executed_rows(scheduler) == {2: 1}
        assert (scheduler.statistics.inference_count, scheduler.statistics.success.count) == (1, 1)
        assert failures(scheduler) == {FailureReason.CANCELED: 1}


async def test_the_request_beyond_the_capacity_is_refused_at_the_door() -> None:
    async with scheduler_of(DOUBLER, capacity=4) as scheduler:
        tasks = await asked(scheduler, [rows(1)] * 6)
        refused = [task for task in tasks if task.done()]
        assert refused == tasks[4:]
        for task in refused:
            with pytest.raises(QueueFull, match="Exceeds maximum queue size: 4 requests"):
                await task
        scheduler.start()
        assert [(await task)[0][0, 0] for task in tasks[:4]] == [2] * 4
        assert failures(scheduler) == {FailureReason.REJECTED: 2}
        assert scheduler.statistics.fail.count == 2


async def test_a_cancelled_request_makes_room() -> None:
    async with scheduler_of(DOUBLER, capacity=1) as scheduler:
        (first,) = await asked(scheduler, [rows(1)])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        (second,) = await asked(scheduler, [rows(2)])
        scheduler.start()
        assert (await second)[0][0, 0] == 4


async def test_a_scheduler_that_is_closed_refuses_and_still_answers_what_is_inside() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        tasks = await asked(scheduler, [rows(1), rows(2)])
        scheduler.refuse_new()
        with pytest.raises(Unavailable, match="stopped accepting new inference requests"):
            await scheduler.infer(rows(3), ("y",), 1, None)
        scheduler.start()
        assert [(await task)[0][0, 0] for task in tasks] == [2, 4]
        assert failures(scheduler) == {FailureReason.OTHER: 1}


async def test_drained_waits_for_everything_that_is_inside() -> None:
    async with scheduler_of(session_of(onnx_models.slow(20_000)), Batching()) as scheduler:
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


async def test_several_instances_answer_many_clients_each_its_own() -> None:
    async with scheduler_of(DOUBLER, Batching(8), instances=3) as scheduler:
        scheduler.start()

        async def client(number: int) -> None:
            for turn in range(20):
                value = number * 100 + turn
                answer = await scheduler.infer(rows(value), ("y",), 1, None)
                assert answer[0].tolist() == [[2 * value] * 4]

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
        b, a = await scheduler.infer(rows(3), ("b", "a"), 1, None)
        assert (b[0, 0], a[0, 0]) == (3, -3)
