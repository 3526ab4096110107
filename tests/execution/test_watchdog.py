"""Runs that take too long are ended and their requests answered; what will not end makes its version not ready."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.errors import DeadlineExceeded, InvalidArgument, Unavailable
from ortolan.execution.answer import Answer
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.graph_request import GraphRequest
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.execution.watchdog import Watchdog
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind

A_WHILE_S = 30.0
SECOND = 10**9
ENDLESS = 1e9
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


SLOW_AS_ASKED = session_of(onnx_models.slow_as_asked())
STUBBORN = session_of(onnx_models.stubborn())


@asynccontextmanager
async def started(
    session: Session, max_execution_s: float, batching: Batching | None = None, instances: int = 1
) -> AsyncIterator[Scheduler]:
    plan = SchedulingPlan(batching or Batching(), LinePolicy(), max_execution_s=max_execution_s)
    loop = asyncio.get_running_loop()
    scheduler = Scheduler("m", [("m_0", session, DeviceShare(2))] * instances, plan, QueueLimits(), loop)
    scheduler.start()
    yield scheduler
    scheduler.refuse_new()
    assert await asyncio.to_thread(scheduler.join, A_WHILE_S)


def row(value: float, size: int = 4) -> dict[str, Array]:
    return {"x": np.full((1, size), value, np.float32)}


def asked(scheduler: Scheduler, inputs: dict[str, Array]) -> asyncio.Task[Answer]:
    return asyncio.create_task(scheduler.infer(GraphRequest(inputs, ("y",), 1)))


async def until_running(scheduler: Scheduler) -> None:
    while all(instance.running is None for instance in scheduler.instances):  # noqa: ASYNC110 - an instance's thread runs, and tells nobody
        await asyncio.sleep(0)


@asynccontextmanager
async def watched(*schedulers: Scheduler) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(lambda: schedulers)
    task = asyncio.create_task(watchdog.watch())
    yield watchdog
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_run_is_ended_when_its_time_is_over_and_not_before() -> None:
    async with started(SLOW_AS_ASKED, max_execution_s=60) as scheduler:
        watchdog = Watchdog(lambda: [scheduler])
        task = asked(scheduler, row(ENDLESS))
        await until_running(scheduler)
        watchdog.look(time.monotonic_ns() + 59 * SECOND)
        await asyncio.sleep(0)
        assert not task.done()
        watchdog.look(time.monotonic_ns() + 61 * SECOND)
        with pytest.raises(DeadlineExceeded, match=r"longer than the 60 s that --max-execution-secs or its own param"):
            await task
        assert (await asked(scheduler, row(3))).outputs[0][0, 0] == 3
        assert not watchdog.hangs(scheduler)


async def test_a_version_without_a_limit_is_never_ended() -> None:
    async with started(SLOW_AS_ASKED, max_execution_s=0) as scheduler:
        watchdog = Watchdog(lambda: [scheduler])
        task = asked(scheduler, row(100_000))
        await until_running(scheduler)
        watchdog.look(time.monotonic_ns() + 10**6 * SECOND)
        assert (await task).outputs[0][0, 0] == 100_000


async def test_while_one_model_hangs_another_answers() -> None:
    async with (
        started(SLOW_AS_ASKED, max_execution_s=0.2) as hanging,
        started(SLOW_AS_ASKED, max_execution_s=0) as other,
        watched(hanging, other),
    ):
        start_s = time.monotonic()
        task = asked(hanging, row(ENDLESS))
        answered = 0
        while not task.done():
            assert (await asked(other, row(1))).outputs[0][0, 0] == 1
            answered += 1
        with pytest.raises(DeadlineExceeded):
            await task
        assert 0.2 <= time.monotonic() - start_s < 5
        assert answered > 3
        assert (await asked(hanging, row(2))).outputs[0][0, 0] == 2


async def test_a_version_whose_run_will_not_end_hangs_until_it_does() -> None:
    """The requests are answered at once; the thread needs some seconds to come back. Nobody waits for it."""
    async with started(STUBBORN, max_execution_s=0.05) as scheduler, watched(scheduler) as watchdog:
        task = asked(scheduler, {"n": np.array([55_000], np.float32)})
        await until_running(scheduler)
        waiting = asked(scheduler, {"n": np.array([2], np.float32)})
        with pytest.raises(DeadlineExceeded):
            await task
        assert scheduler.instances[0].running is not None
        with pytest.raises(Unavailable, match="the model hangs"):
            await waiting
        assert watchdog.hangs(scheduler)
        with pytest.raises(Unavailable, match="the model hangs"):
            await asked(scheduler, {"n": np.array([2], np.float32)})
        while watchdog.hangs(scheduler):  # noqa: ASYNC110 - a thread comes back, and tells nobody
            await asyncio.sleep(0.01)
        answer = await asked(scheduler, {"n": np.array([2], np.float32)})
        assert answer.outputs[0].tolist() == [2, 3]


async def test_a_version_with_an_instance_left_does_not_hang() -> None:
    async with started(STUBBORN, max_execution_s=60, instances=2) as scheduler:
        watchdog = Watchdog(lambda: [scheduler])
        task = asked(scheduler, {"n": np.array([50_000], np.float32)})
        await until_running(scheduler)
        end_ns = time.monotonic_ns() + 61 * SECOND
        watchdog.look(end_ns)
        with pytest.raises(DeadlineExceeded):
            await task
        watchdog.look(end_ns + SECOND)
        answer = await asked(scheduler, {"n": np.array([2], np.float32)})
        assert answer.outputs[0].tolist() == [2, 3]
        assert not watchdog.hangs(scheduler)


async def test_a_run_that_nobody_wants_and_that_does_not_stop_hangs_without_a_limit() -> None:
    async with started(STUBBORN, max_execution_s=0) as scheduler:
        watchdog = Watchdog(lambda: [scheduler])
        task = asked(scheduler, {"n": np.array([50_000], np.float32)})
        await until_running(scheduler)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        given_up_ns = time.monotonic_ns()
        waiting = asked(scheduler, {"n": np.array([2], np.float32)})
        await asyncio.sleep(0)
        watchdog.look(given_up_ns)
        watchdog.look(given_up_ns + 29 * SECOND)
        await asyncio.sleep(0)
        assert not waiting.done()
        watchdog.look(given_up_ns + 31 * SECOND)
        with pytest.raises(Unavailable, match="the model hangs"):
            await waiting


async def test_of_a_batch_that_failed_only_the_member_that_hangs_is_ended() -> None:
    """The second cannot be joined with the others, so that the batch fails at once, and each is run alone."""
    async with started(SLOW_AS_ASKED, 1.0, Batching(8)) as scheduler, watched(scheduler):
        blocker = asked(scheduler, row(100_000))
        await until_running(scheduler)
        tasks = [asked(scheduler, inputs) for inputs in (row(1), row(1, size=5), row(ENDLESS), row(2))]
        await blocker
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Answer, InvalidArgument, DeadlineExceeded, Answer]
