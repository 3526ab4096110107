"""Requests that no coroutine waits for: who asked is told exactly once, whatever comes of it."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.errors import DeadlineExceeded, InvalidArgument, OrtolanError, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.answer import Answer
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.direct_request import DirectRequest, DirectTerms
from ortolan.execution.model_statistics import FailureReason
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def session_of(proto: onnx.ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


GATHER = session_of(onnx_models.gather())
DOUBLER = session_of(onnx_models.doubler())
SLOW_AS_ASKED = session_of(onnx_models.slow_as_asked())
ENDLESS = 1e9


class Client:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[float | type] = []
        self.done = asyncio.Event()

    def answered(self, answer: Answer) -> None:
        self.told.append(float(answer.outputs[0].flat[0]))
        self.done.set()

    def refused(self, error: OrtolanError) -> None:
        self.told.append(type(error))
        self.done.set()

    async def hears(self) -> float | type:
        async with asyncio.timeout(30):
            await self.done.wait()
        assert len(self.told) == 1
        return self.told[0]


@asynccontextmanager
async def scheduler_of(
    session: Session, limits: QueueLimits | None = None, ordered: bool = False
) -> AsyncIterator[Scheduler]:
    plan = SchedulingPlan(Batching(64), LinePolicy(), preserve_ordering=ordered)
    sessions = [("m_0", session, DeviceShare(1))]
    scheduler = Scheduler("m", sessions, plan, limits or QueueLimits(1000), asyncio.get_running_loop())
    yield scheduler
    scheduler.refuse_new()
    assert await asyncio.to_thread(scheduler.join, 30)
    assert (scheduler.waiting_requests, scheduler.in_flight_requests) == (0, 0)


def begun(
    scheduler: Scheduler, client: Client, inputs: dict[str, Array], timeout_ns: int = 0, deadline_ns: int = 0
) -> DirectRequest:
    terms = DirectTerms(("y",), len(inputs["x"]), None, inputs["x"].nbytes, timeout_ns, "m", "1", "")
    request = DirectRequest(scheduler, client, terms, inputs, time.monotonic_ns(), deadline_ns)
    assert scheduler.begin(request)
    return request


def row(value: float) -> dict[str, Array]:
    return {"x": np.full((1, 4), value, np.float32)}


async def in_the_queue(scheduler: Scheduler, count: int) -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert scheduler.waiting_requests == count


async def until_running(scheduler: Scheduler) -> None:
    async with asyncio.timeout(30):
        while scheduler.instances[0].running is None:  # noqa: ASYNC110 - an instance's thread tells nobody
            await asyncio.sleep(0)


def counted(scheduler: Scheduler) -> tuple[int, int, dict[FailureReason, int]]:
    found = scheduler.statistics
    return found.success.count, found.inference_count, {key: n for key, n in found.failures.items() if n}


async def test_each_is_told_its_own_answer_and_counted() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        clients = [Client() for _ in range(5)]
        for value, client in enumerate(clients):
            begun(scheduler, client, row(value))
        scheduler.start()
        assert [await client.hears() for client in clients] == [0, 2, 4, 6, 8]
        assert counted(scheduler) == (5, 5, {})
        assert scheduler.statistics.queue.count == 5


async def test_one_that_fails_is_told_why_and_its_companions_are_answered() -> None:
    async with scheduler_of(GATHER) as scheduler:
        clients = [Client() for _ in range(3)]
        for value, client in zip((1, 1000, 2), clients, strict=True):
            begun(scheduler, client, {"x": np.array([[value]])})
        scheduler.start()
        found = [await client.hears() for client in clients]
        assert found[1] is InvalidArgument
        assert all(isinstance(each, float) for each in (found[0], found[2]))
        assert counted(scheduler) == (2, 2, {FailureReason.BACKEND: 1})


async def test_who_goes_while_waiting_is_never_executed() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        gone, stays = Client(), Client()
        request = begun(scheduler, gone, row(1))
        begun(scheduler, stays, row(2))
        await in_the_queue(scheduler, 2)
        request.cancel()
        request.cancel()
        assert (scheduler.waiting_requests, scheduler.in_flight_requests) == (1, 1)
        scheduler.start()
        assert await stays.hears() == 4
        assert gone.told == []
        assert counted(scheduler) == (1, 1, {FailureReason.CANCELED: 1})


async def test_who_goes_before_the_queue_never_gets_there() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        begun(scheduler, Client(), row(1)).cancel()
        await in_the_queue(scheduler, 0)
        scheduler.start()


async def test_who_goes_while_it_runs_ends_the_run() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        scheduler.start()
        gone, stays = Client(), Client()
        request = begun(scheduler, gone, row(ENDLESS))
        await until_running(scheduler)
        request.cancel()
        begun(scheduler, stays, row(1))
        assert isinstance(await stays.hears(), float)
        assert gone.told == []


async def test_deadlines_and_times_in_the_queue_are_kept() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        scheduler.start()
        runs, waits = Client(), Client()
        begun(scheduler, runs, row(ENDLESS), deadline_ns=time.monotonic_ns() + 200_000_000)
        await until_running(scheduler)
        begun(scheduler, waits, row(1), timeout_ns=1_000_000)
        assert await waits.hears() is RequestTimeout
        assert await runs.hears() is DeadlineExceeded
        assert counted(scheduler) == (0, 0, {FailureReason.REJECTED: 2})


async def test_the_one_beyond_the_capacity_is_refused() -> None:
    async with scheduler_of(DOUBLER, QueueLimits(2)) as scheduler:
        clients = [Client() for _ in range(3)]
        for client in clients:
            begun(scheduler, client, row(1))
        assert await clients[2].hears() is QueueFull
        scheduler.start()
        assert [await client.hears() for client in clients[:2]] == [2, 2]


async def test_who_goes_holds_up_no_answer_where_they_keep_their_order() -> None:
    async with scheduler_of(SLOW_AS_ASKED, ordered=True) as scheduler:
        first, second = Client(), Client()
        request = begun(scheduler, first, row(ENDLESS))
        await in_the_queue(scheduler, 1)
        scheduler.start()
        await until_running(scheduler)
        begun(scheduler, second, row(1))
        request.cancel()
        assert isinstance(await second.hears(), float)


async def test_what_is_inside_is_answered_and_nothing_more_let_in_at_the_end() -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        inside, late = Client(), Client()
        begun(scheduler, inside, row(1))
        scheduler.refuse_new()
        terms = DirectTerms(("y",), 1, None, 16, 0, "m", "1", "")
        assert not scheduler.begin(DirectRequest(scheduler, late, terms, row(1), time.monotonic_ns(), 0))
        scheduler.start()
        assert await inside.hears() == 2
        await scheduler.drained()
        assert late.told == []


async def test_a_run_that_is_failed_from_outside_tells_all_at_once() -> None:
    async with scheduler_of(SLOW_AS_ASKED) as scheduler:
        scheduler.start()
        client = Client()
        begun(scheduler, client, row(ENDLESS))
        await until_running(scheduler)
        running = scheduler.instances[0].running
        assert running is not None
        scheduler.fail_running(running, Unavailable("it hangs"))
        assert await client.hears() is Unavailable


@pytest.mark.parametrize("gone", [False, True])
async def test_nothing_of_it_waits_for_the_garbage_collector(gone: bool) -> None:
    async with scheduler_of(DOUBLER) as scheduler:
        scheduler.start()
        gc.collect()
        gc.disable()
        try:
            client = Client()
            request = begun(scheduler, client, row(1))
            if gone:
                request.cancel()
                await in_the_queue(scheduler, 0)
            else:
                await client.hears()
            left = weakref.ref(client)
            del client, request
            # Whoever hands answers over lets go of them in its next step.
            for _ in range(3):
                await asyncio.sleep(0)
            assert left() is None
        finally:
            gc.enable()
