"""Batches, priorities and order as the configuration asks for them, told by the statistics of a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import callers
import grpc
import numpy as np
import onnx
import onnx_models
import pytest
from callers import Reply, batches, failures, row, statistics, until_waiting
from server_process import ServerProcess, running

HELD = 6
A_MINUTE_US = 60_000_000
IO = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
DELAY_US = 200_000


def config(batching: str | None, max_batch_size: int = 8, instances: int = 1) -> str:
    group = f"max_batch_size: {max_batch_size}\ninstance_group [ {{ count: {instances}, kind: KIND_CPU }} ]\n"
    return group + (f"dynamic_batching {{ {batching} }}\n" if batching is not None else "")


def delay(us: int) -> str:
    return f"max_queue_delay_microseconds: {us} "


MODELS: dict[str, tuple[onnx.ModelProto, str]] = {
    "preferred": (onnx_models.doubler(), config("preferred_batch_size: [ 2, 4 ]")),
    "delayed": (onnx_models.doubler(), config(delay(DELAY_US))),
    "delayed_alone": (onnx_models.doubler(), config(delay(DELAY_US))),
    "full": (onnx_models.doubler(), config(delay(A_MINUTE_US), 6)),
    "no_block": (onnx_models.doubler(), config(None) + IO),
    "automatic": (onnx_models.doubler(), config("")),
    "quantised": (onnx_models.dynamically_quantised(), config("")),
    "quantised_by_order": (onnx_models.dynamically_quantised(), config(delay(1))),
    "first_row": (onnx_models.first_row(), config("")),
    "first_row_by_order": (onnx_models.first_row(), config(delay(1))),
    "levels_rest": (onnx_models.slow(20_000), config("priority_levels: 3 default_priority_level: 2", 1)),
    "levels_grpc": (onnx_models.slow(20_000), config("priority_levels: 3 default_priority_level: 2", 1)),
    "ordered": (onnx_models.slow_as_asked(), config("preserve_ordering: true", 1, 2)),
    "unordered": (onnx_models.slow_as_asked(), config("", 1, 2)),
    "expiring": (
        onnx_models.slow(20_000),
        config(
            "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 3600000000 "
            "allow_timeout_override: true }",
            1,
        ),
    ),
    "many": (onnx_models.gather(), config(f"preferred_batch_size: [ 64 ] {delay(A_MINUTE_US)}", 64)),
    "four": (onnx_models.slow(100_000), config(f"preferred_batch_size: [ 4 ] {delay(A_MINUTE_US)}")),
    "four_waiting": (onnx_models.doubler(), config("")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Nothing of a model is executed before six requests wait for it; each test has a model of its own."""
    repository = tmp_path_factory.mktemp("models")
    for name, (proto, text) in MODELS.items():
        onnx_models.save_version(repository, name, proto, config=text)
    environment = {"TRITONSERVER_DELAY_SCHEDULER": str(HELD)}
    with running(repository, "--calibration-cache=none", environment=environment) as server:
        yield server


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


async def asked(server: ServerProcess, model: str, arrays: Sequence[np.ndarray]) -> list[Reply]:
    return await asyncio.gather(*(callers.rest(server, model, array) for array in arrays))


async def sent_in_order(
    server: ServerProcess, model: str, requests: Iterable[Callable[[], Awaitable[Any]]]
) -> list[asyncio.Future[Any]]:
    """A future for each of six requests; all but the last wait in the queue, in order, before the last is sent."""
    tasks: list[asyncio.Future[Any]] = []
    for request in requests:
        tasks.append(asyncio.ensure_future(request()))
        if len(tasks) < HELD:
            await until_waiting(server, model, len(tasks))
    return tasks


async def order_of(tasks: Sequence[asyncio.Future[Any]]) -> list[int]:
    """The indices of ``tasks`` in the order in which they were done."""
    order: list[int] = []

    async def note(number: int, task: asyncio.Future[Any]) -> None:
        await task
        order.append(number)

    await asyncio.gather(*(note(number, task) for number, task in enumerate(tasks)))
    return order


SIX = [row(number) for number in range(6)]


async def check_answers(server: ServerProcess, model: str) -> None:
    replies = await asked(server, model, SIX)
    assert [reply.array.tolist() for reply in replies] == [(2 * each).tolist() for each in SIX]
    found = statistics(server, model)
    assert found["inference_count"] == found["inference_stats"]["success"]["count"] == 6
    assert found["execution_count"] == sum(batches(server, model).values())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("preferred", {4: 1, 2: 1}),  # the largest that can be met, twice
        ("delayed", {6: 1}),  # when the delay is over, all that wait
        ("full", {6: 1}),  # which ends the delay of a minute
        ("no_block", {1: 6}),
    ],
)
async def test_batches_have_the_sizes_that_the_configuration_asks_for(
    server: ServerProcess, model: str, expected: dict[int, int]
) -> None:
    await check_answers(server, model)
    assert batches(server, model) == expected


async def test_what_waits_is_batched_without_being_asked_for(server: ServerProcess) -> None:
    await check_answers(server, "automatic")
    assert statistics(server, "automatic")["execution_count"] < 6


async def test_a_delay_is_waited_when_nothing_fills_the_batch(server: ServerProcess) -> None:
    await asked(server, "delayed_alone", SIX)  # of which the first hold nothing any more
    reply = await callers.rest(server, "delayed_alone", row(1))
    assert reply.timing["queue"] >= DELAY_US / 1000
    assert reply.timing["batch"] == 1


@pytest.mark.parametrize("model", ["quantised", "first_row"])
async def test_a_model_that_mixes_rows_answers_each_request_as_if_it_were_alone(
    server: ServerProcess, model: str
) -> None:
    arrays = [np.random.default_rng(number).normal(size=(1, 4)).astype(np.float32) * 10**number for number in range(6)]
    together = await asked(server, model, arrays)
    assert batches(server, model) == {1: 6}
    for array, reply in zip(arrays, together, strict=True):
        assert reply.array.tolist() == (await callers.rest(server, model, array)).array.tolist()


async def test_a_model_that_mixes_rows_is_batched_where_the_configuration_insists(server: ServerProcess) -> None:
    await asked(server, "quantised_by_order", SIX)
    assert batches(server, "quantised_by_order") == {6: 1}


async def test_a_batch_whose_answers_cannot_be_told_apart_is_taken_apart(server: ServerProcess) -> None:
    replies = await asked(server, "first_row_by_order", SIX)
    assert [reply.array.tolist() for reply in replies] == [each.tolist() for each in SIX]
    assert batches(server, "first_row_by_order") == {1: 6}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_priority_levels_are_served_in_their_order(
    server: ServerProcess, channel: grpc.aio.Channel, protocol: str
) -> None:
    """0 and 9 mean the default level, 2."""
    model = f"levels_{protocol}"

    def request(priority: int) -> Awaitable[Any]:
        if protocol == "rest":
            return callers.rest(server, model, row(), parameters={"priority": priority})
        return callers.grpc_call(channel, model, row(), priority=priority)

    tasks = await sent_in_order(server, model, (partial(request, priority) for priority in (3, 0, 1, 9, 2, 1)))
    assert await order_of(tasks) == [2, 5, 1, 3, 4, 0]


async def test_answers_keep_the_order_of_their_requests_where_that_is_asked_for(server: ServerProcess) -> None:
    """The first takes long, and a second instance answers the others meanwhile."""
    for model in ("ordered", "unordered"):
        arrays = [row(300_000), *(row(number) for number in range(5))]
        tasks = await sent_in_order(server, model, (partial(callers.rest, server, model, array) for array in arrays))
        order = await order_of(tasks)
        assert order.index(0) == (0 if model == "ordered" else 5)


async def test_a_request_that_expires_is_served_last_where_the_policy_delays_it(server: ServerProcess) -> None:
    tasks = await sent_in_order(
        server,
        "expiring",
        (
            partial(callers.rest, server, "expiring", row(), parameters={"timeout": 1} if number == 0 else {})
            for number in range(6)
        ),
    )
    assert await order_of(tasks) == [1, 2, 3, 4, 5, 0]
    assert failures(server, "expiring") == {}


async def test_63_good_requests_and_a_bad_one_are_63_answers_and_one_error(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    values = [9 if number == 30 else number % 4 for number in range(64)]
    calls = [callers.grpc_call(channel, "many", np.array([[value]])) for value in values]
    results = await asyncio.gather(*calls, return_exceptions=True)
    error = results.pop(30)
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), "idx=9" in str(error.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert [callers.grpc_array(result).item() for result in results] == [value for value in values if value != 9]
    assert failures(server, "many") == {"BACKEND": 1}
    assert statistics(server, "many")["inference_stats"]["success"]["count"] == 63
    assert batches(server, "many") == {1: 63}


async def test_of_four_in_a_batch_one_is_cancelled_while_it_runs_and_three_are_answered(server: ServerProcess) -> None:
    """Two more make six, so that nothing is held any more; they wait for others themselves."""
    first = [asyncio.create_task(callers.rest(server, "four", row(number))) for number in range(4)]
    await until_waiting(server, "four", 4)
    others = [asyncio.create_task(callers.rest(server, "four", row(9))) for _ in range(2)]
    await until_waiting(server, "four", 2)
    first[1].cancel()
    replies = await asyncio.gather(*first, return_exceptions=True)
    assert isinstance(replies.pop(1), asyncio.CancelledError)
    answered = [reply.array.tolist() for reply in replies if isinstance(reply, Reply)]
    assert answered == [row(number).tolist() for number in (0, 2, 3)]
    assert failures(server, "four") == {"CANCELED": 1}
    assert batches(server, "four") == {4: 1}
    for other in others:
        other.cancel()


async def test_of_four_that_wait_together_one_is_cancelled_and_three_are_answered(server: ServerProcess) -> None:
    tasks = [asyncio.create_task(callers.rest(server, "four_waiting", row(number))) for number in range(4)]
    await until_waiting(server, "four_waiting", 4)
    tasks[2].cancel()
    await until_waiting(server, "four_waiting", 3)
    others = [callers.rest(server, "four_waiting", row()) for _ in range(3)]
    replies = await asyncio.gather(*tasks, *others, return_exceptions=True)
    assert isinstance(replies[2], asyncio.CancelledError)
    assert [reply.array[0, 0] for reply in replies[:4] if isinstance(reply, Reply)] == [0, 2, 6]
    assert statistics(server, "four_waiting")["inference_count"] == 6
    assert failures(server, "four_waiting") == {"CANCELED": 1}
