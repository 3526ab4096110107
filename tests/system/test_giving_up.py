"""Cancelled calls, closed connections, deadlines and timeouts leave the queue at once, and are never executed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import callers
import grpc
import onnx_models
import pytest
from callers import failures, row, statistics, until_waiting
from server_process import ServerProcess, eventually, running

CONFIG = "max_batch_size: 8\ninstance_group [ { count: 1, kind: KIND_CPU } ]\ndynamic_batching { %s }\n"
POLICIES = {
    "limited": "default_queue_policy { default_timeout_microseconds: 50000 }",
    "shortened": "default_queue_policy { default_timeout_microseconds: 3600000000 allow_timeout_override: true }",
    "fixed": "default_queue_policy { default_timeout_microseconds: 3600000000 }",
    "patient": (
        "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 3600000000 "
        "allow_timeout_override: true }"
    ),
}
PLAIN = ("cancelled", "dropped", "late", "late_header", "timed_out", "timed_out_grpc", "overdue")
EXPIRED = "Request timeout expired"
# Far above what an answer takes, far below what one would wait for otherwise.
PROMPT_S = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """No model is executed before a thousand requests wait for it, so that all wait for ever."""
    repository = tmp_path_factory.mktemp("models")
    for name in PLAIN:
        onnx_models.save_version(repository, name, onnx_models.doubler(), config=CONFIG % "")
    for name, policy in POLICIES.items():
        onnx_models.save_version(repository, name, onnx_models.doubler(), config=CONFIG % policy)
    log = repository.parent / "log"
    environment = {"TRITONSERVER_DELAY_SCHEDULER": "1000"}
    with running(repository, "--calibration-cache=none", environment=environment, log=log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


def nothing_was_executed(server: ServerProcess, model: str) -> bool:
    found = statistics(server, model)
    return (found["execution_count"], found["inference_count"], found["batch_stats"]) == (0, 0, [])


async def until_failed(server: ServerProcess, model: str, expected: dict[str, int]) -> None:
    """Return once the model's requests have failed for these reasons."""
    await asyncio.to_thread(eventually, lambda: failures(server, model) == expected, PROMPT_S)


async def test_of_a_hundred_cancelled_calls_none_is_executed(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    calls = [callers.grpc_call(channel, "cancelled", row()) for _ in range(100)]
    pending = [asyncio.ensure_future(call) for call in calls]
    await until_waiting(server, "cancelled", 100)
    for call in calls:
        call.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    await until_failed(server, "cancelled", {"CANCELED": 100})
    assert callers.waiting(server, "cancelled") == 0
    assert nothing_was_executed(server, "cancelled")


async def test_of_a_hundred_closed_connections_no_request_is_executed(server: ServerProcess) -> None:
    tasks = [asyncio.create_task(callers.rest(server, "dropped", row())) for _ in range(100)]
    await until_waiting(server, "dropped", 100)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until_failed(server, "dropped", {"CANCELED": 100})
    assert callers.waiting(server, "dropped") == 0
    assert nothing_was_executed(server, "dropped")


async def test_calls_whose_deadline_passes_leave_the_queue(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    start_s = time.monotonic()
    calls = [callers.grpc_call(channel, "late", row(), deadline_s=0.5) for _ in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    codes = {result.code() for result in results if isinstance(result, grpc.RpcError)}
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert time.monotonic() - start_s < PROMPT_S
    # Whether a call fails by its deadline or is cancelled because of it depends on who is the first to see it pass.
    await asyncio.to_thread(eventually, lambda: sum(failures(server, "late").values()) == 20, PROMPT_S)
    assert callers.waiting(server, "late") == 0
    assert nothing_was_executed(server, "late")


@pytest.mark.parametrize("seconds", ["0.05", "1e-1", " 0.000001 "])
async def test_a_request_says_over_http_how_long_its_client_waits(server: ServerProcess, seconds: str) -> None:
    start_s = time.monotonic()
    reply = await callers.rest(server, "late_header", row(), headers={"X-Request-Timeout": seconds})
    assert time.monotonic() - start_s < PROMPT_S
    assert reply.status == 504
    assert "deadline" in reply.json["error"]
    assert callers.waiting(server, "late_header") == 0
    assert set(failures(server, "late_header")) == {"REJECTED"}
    assert nothing_was_executed(server, "late_header")


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "", "nan", "inf", "1s", "0x10", "1,5"])
async def test_a_time_that_is_none_is_refused(server: ServerProcess, seconds: str) -> None:
    before = statistics(server, "overdue")["inference_stats"]
    reply = await callers.rest(server, "overdue", row(), headers={"X-Request-Timeout": seconds})
    assert (reply.status, "X-Request-Timeout must be a number of seconds above 0" in reply.json["error"]) == (400, True)
    assert statistics(server, "overdue")["inference_stats"] == before


async def test_a_timeout_in_the_request_is_how_long_it_may_wait(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    async def over_rest() -> None:
        reply = await callers.rest(server, "timed_out", row(), parameters={"timeout": 30_000})
        assert (reply.status, reply.json["error"]) == (503, EXPIRED)

    async def over_grpc() -> None:
        with pytest.raises(grpc.RpcError) as refused:
            await callers.grpc_call(channel, "timed_out_grpc", row(), timeout=30_000)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAVAILABLE, EXPIRED)

    for ask, model in ((over_rest, "timed_out"), (over_grpc, "timed_out_grpc")):
        await asyncio.gather(*(ask() for _ in range(5)))
        assert failures(server, model) == {"REJECTED": 5}
        assert callers.waiting(server, model) == 0
        assert nothing_was_executed(server, model)


@pytest.mark.parametrize("microseconds", [-1, "5", 2.5, True])
async def test_a_timeout_that_is_none_is_refused(server: ServerProcess, microseconds: object) -> None:
    reply = await callers.rest(server, "overdue", row(), parameters={"timeout": microseconds})
    assert (reply.status, "'timeout'" in reply.json["error"]) == (400, True)


@pytest.mark.parametrize(("model", "parameters"), [("limited", {}), ("shortened", {"timeout": 30_000})])
async def test_the_queue_policy_says_how_long_requests_may_wait(
    server: ServerProcess, model: str, parameters: dict[str, int]
) -> None:
    reply = await callers.rest(server, model, row(), parameters=parameters)
    assert (reply.status, reply.json["error"]) == (503, EXPIRED)
    assert failures(server, model) == {"REJECTED": 1}
    assert nothing_was_executed(server, model)


@pytest.mark.parametrize("model", ["fixed", "patient"])
async def test_where_the_policy_lets_no_request_expire_it_waits_on(server: ServerProcess, model: str) -> None:
    """The one may not override the policy; the other is delayed, not rejected."""
    task = asyncio.create_task(callers.rest(server, model, row(), parameters={"timeout": 1000}))
    await until_waiting(server, model, 1)
    other = await callers.rest(server, "limited", row())  # which takes many times as long
    assert other.status == 503
    assert callers.waiting(server, model) == 1
    task.cancel()
    await until_waiting(server, model, 0)
