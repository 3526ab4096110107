"""A full queue refuses at once, exactly, and says when to come again."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import callers
import grpc
import onnx_models
import pytest
from callers import failures, row, until_waiting
from server_process import ServerProcess, running

REQUESTS = 8
BYTES = 1000
ROW_BYTES = 16
FULL = "Exceeds maximum queue size"
CONFIG = "max_batch_size: 64\ndynamic_batching { %s }\n"
LEVELS = (
    "priority_levels: 2 default_priority_level: 2 default_queue_policy { max_queue_size: 5 } "
    "priority_queue_policy { key: 1 value { max_queue_size: 2 } }"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """No model is executed before a thousand requests wait for it, so that all that are let in wait for ever."""
    repository = tmp_path_factory.mktemp("models")
    for name in ("rest", "grpc", "large_rest", "large_grpc", "idle"):
        onnx_models.save_version(repository, name, onnx_models.doubler(), config=CONFIG % "")
    for name in ("levels_rest", "levels_grpc"):
        onnx_models.save_version(repository, name, onnx_models.doubler(), config=CONFIG % LEVELS)
    limits = (f"--max-queue-size={REQUESTS}", f"--max-queue-bytes={BYTES}")
    environment = {"TRITONSERVER_DELAY_SCHEDULER": "1000"}
    with running(repository, "--calibration-cache=none", *limits, environment=environment) as server:
        yield server


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


async def refusals_over_rest(
    server: ServerProcess, model: str, count: int, let_in: int, rows: int = 1, priority: int = 0
) -> list[str]:
    """The messages of the refusals when ``count`` requests come at once and ``let_in`` of them wait for ever."""
    tasks = [
        asyncio.create_task(callers.rest(server, model, row(rows=rows), parameters={"priority": priority}))
        for _ in range(count)
    ]
    try:
        return [await refused(task) for task in await first_done(tasks, count - let_in)]
    finally:
        await give_up(tasks)


async def refused(task: "asyncio.Task[callers.Reply]") -> str:
    reply = await task
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    return str(reply.json["error"])


async def refusals_over_grpc(
    channel: grpc.aio.Channel, model: str, count: int, let_in: int, rows: int = 1, priority: int = 0
) -> list[str]:
    calls = [callers.grpc_call(channel, model, row(rows=rows), priority=priority) for _ in range(count)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        messages = []
        for task in await first_done(tasks, count - let_in):
            with pytest.raises(grpc.RpcError) as error:
                await task
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
            messages.append(error.value.details())
        return messages
    finally:
        await give_up(tasks)


async def first_done(tasks: "list[asyncio.Task[object]]", count: int) -> "list[asyncio.Task[object]]":
    """Those that are done as soon as ``count`` are."""
    async with asyncio.timeout(callers.LONGEST_S):
        while len(done := [task for task in tasks if task.done()]) < count:
            await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    return done


async def give_up(tasks: "list[asyncio.Task[object]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_as_many_requests_wait_as_may_and_not_one_more(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    over_rest = await refusals_over_rest(server, "rest", 20, REQUESTS)
    over_grpc = await refusals_over_grpc(channel, "grpc", 20, REQUESTS)
    assert len(over_rest) == len(over_grpc) == 20 - REQUESTS
    assert all(message.startswith(f"{FULL}: {REQUESTS} requests wait already") for message in over_rest + over_grpc)
    for model in ("rest", "grpc"):
        await until_waiting(server, model, 0)
        assert failures(server, model) == {"REJECTED": 20 - REQUESTS, "CANCELED": REQUESTS}


async def test_who_gives_up_makes_room(server: ServerProcess) -> None:
    for _ in range(2):
        tasks = [asyncio.create_task(callers.rest(server, "idle", row())) for _ in range(REQUESTS)]
        await until_waiting(server, "idle", REQUESTS)
        assert len(await refusals_over_rest(server, "idle", 1, 0)) == 1
        await give_up(tasks)
        await until_waiting(server, "idle", 0)


async def test_as_many_bytes_wait_as_may(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    """Three requests of 20 rows hold 960 bytes; a fourth would make 1,280."""
    assert 3 * 20 * ROW_BYTES <= BYTES < 4 * 20 * ROW_BYTES
    over_rest = await refusals_over_rest(server, "large_rest", 6, 3, rows=20)
    over_grpc = await refusals_over_grpc(channel, "large_grpc", 6, 3, rows=20)
    assert len(over_rest) == len(over_grpc) == 3
    assert all(FULL in message and "hold 960 bytes" in message for message in over_rest + over_grpc)


async def test_each_level_has_a_bound_of_its_own(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    for priority, bound in ((1, 2), (2, 5), (0, 5)):
        over_rest = await refusals_over_rest(server, "levels_rest", 7, bound, priority=priority)
        over_grpc = await refusals_over_grpc(channel, "levels_grpc", 7, bound, priority=priority)
        assert len(over_rest) == len(over_grpc) == 7 - bound
        assert all(FULL in message and f": {bound} requests" in message for message in over_rest + over_grpc)
        for model in ("levels_rest", "levels_grpc"):
            await until_waiting(server, model, 0)
