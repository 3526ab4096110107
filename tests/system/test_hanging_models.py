"""A model that hangs: its requests are answered all the same, others do not notice, and readiness tells the truth."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import callers
import grpc
import numpy as np
import onnx_models
import pytest
from callers import row, statistics
from replicas_seen import Kept, one_to_each
from server_process import ServerProcess, eventually, finished, running

LIMIT_S = 0.3
ENDLESS = 1e9
ONE_INSTANCE = "instance_group [ { count: 1, kind: KIND_CPU } ]\n"
# Far above the limit and 100 ms, for a busy machine; far below what a run takes that is not ended.
PROMPT_S = 5.0


def own_limit(seconds: str) -> str:
    return f'parameters {{ key: "max_execution_secs" value {{ string_value: "{seconds}" }} }}\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    unlimited = "max_batch_size: 1\n" + own_limit("0")
    configs = {
        "hangs": "",
        "hangs_soon": own_limit("0.1"),
        "unlimited_rest": unlimited,
        "unlimited_grpc": unlimited,
        "unlimited_late": unlimited,
    }
    for name, config in configs.items():
        onnx_models.save_version(repository, name, onnx_models.slow_as_asked(), config=ONE_INSTANCE + config)
    for name in ("stubborn", "queued"):
        onnx_models.save_version(repository, name, onnx_models.stubborn(), config=ONE_INSTANCE)
    onnx_models.save_version(repository, "quick", onnx_models.doubler())
    with running(repository, "--calibration-cache=none", f"--max-execution-secs={LIMIT_S}") as server:
        yield server


def is_ready(server: ServerProcess, path: str) -> bool:
    try:
        with urlopen(f"http://{server.http}{path}", timeout=callers.LONGEST_S) as response:
            return response.status == 200
    except HTTPError:
        return False


@pytest.mark.parametrize(("model", "limit_s"), [("hangs", LIMIT_S), ("hangs_soon", 0.1)])
async def test_a_run_that_takes_too_long_is_ended_and_answered(
    server: ServerProcess, model: str, limit_s: float
) -> None:
    start_s = time.monotonic()
    reply = await callers.rest(server, model, row(ENDLESS))
    assert limit_s <= time.monotonic() - start_s < PROMPT_S
    assert reply.status == 504
    assert f"the model took longer than the {limit_s:g} s" in reply.json["error"]
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await callers.grpc_call(channel, model, row(ENDLESS))
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    reply = await callers.rest(server, model, row(3))  # its session is as good as before
    assert reply.array.tolist() == row(3).tolist()
    assert is_ready(server, f"/v2/models/{model}/ready")


async def test_a_model_that_hangs_while_it_drains_is_ended_too(tmp_path: Path) -> None:
    onnx_models.save_version(
        tmp_path, "m", onnx_models.slow_as_asked(), config=ONE_INSTANCE + "max_batch_size: 1\n" + own_limit("2")
    )
    explicit = ("--model-control-mode=explicit", "--load-model=m")
    with running(tmp_path, "--calibration-cache=none", *explicit) as server:
        hanging = [asyncio.create_task(callers.rest(server, "m", row(ENDLESS))) for _ in range(2)]

        def one_runs() -> bool:
            return callers.metric(server, "nv_inference_pending_request_count", "m") == 1

        await asyncio.to_thread(eventually, one_runs)
        unload = f"http://{server.http}/v2/repository/models/m/unload"
        await asyncio.to_thread(lambda: urlopen(unload, b"", timeout=callers.LONGEST_S).close())
        assert [(await answer).status for answer in hanging] == [504, 504]


async def test_others_answer_while_a_model_hangs(server: ServerProcess) -> None:
    hanging = [asyncio.create_task(callers.rest(server, "hangs", row(ENDLESS))) for _ in range(3)]
    answered = 0
    while not all(task.done() for task in hanging):
        start_s = time.monotonic()
        assert (await callers.rest(server, "quick", row(1))).array.tolist() == row(2).tolist()
        assert time.monotonic() - start_s < PROMPT_S
        answered += 1
    assert [task.result().status for task in hanging] == [504] * 3
    assert answered > 3


async def test_a_model_whose_run_will_not_end_is_not_ready_until_it_does(server: ServerProcess) -> None:
    assert is_ready(server, "/v2/health/ready")
    reply = await callers.rest(server, "stubborn", np.array([70_000], np.float32), "n")
    assert reply.status == 504
    async with asyncio.timeout(callers.LONGEST_S):
        for expected in (False, True):
            while is_ready(server, "/v2/models/stubborn/ready") is not expected:
                assert is_ready(server, "/v2/health/live")
                assert is_ready(server, "/v2/models/quick/ready")
                assert (await callers.rest(server, "quick", row(1))).status == 200
            assert is_ready(server, "/v2/health/ready") is expected
    reply = await callers.rest(server, "stubborn", np.array([3], np.float32), "n")
    assert reply.array.tolist() == [3, 3]


async def test_nobody_waits_for_a_model_that_hangs(server: ServerProcess) -> None:
    """One runs and two wait; when it is known that the run does not end, who waits is sent away, and who comes too."""
    numbers = (np.array([70_000], np.float32), np.array([3], np.float32), np.array([3], np.float32))
    first = asyncio.create_task(callers.rest(server, "queued", numbers[0], "n"))
    waiting = [asyncio.create_task(callers.rest(server, "queued", each, "n")) for each in numbers[1:]]
    replies = [await first, *(await asyncio.gather(*waiting))]
    # Which of the three was the first to come is not certain; the short ones are answered if they were.
    assert replies[0].status == 504
    for reply in replies[1:]:
        assert reply.status == 200 or (reply.status, "the model hangs" in reply.json["error"]) == (503, True)
    async with asyncio.timeout(callers.LONGEST_S):
        while (reply := await callers.rest(server, "queued", numbers[1], "n")).status != 200:
            assert (reply.status, "the model hangs" in reply.json["error"]) == (503, True)
    assert is_ready(server, "/v2/models/queued/ready")


@pytest.mark.skipif(sys.platform != "linux", reason="--processes needs Linux")
def test_of_several_processes_the_others_answer_and_all_tell_that_one_hangs(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "stubborn", onnx_models.stubborn(), config=ONE_INSTANCE)
    onnx_models.save_version(tmp_path, "quick", onnx_models.doubler())
    flags = ("--processes=2", "--calibration-cache=none", f"--max-execution-secs={LIMIT_S}")
    quick, long = callers.rest_body(row(1)), callers.rest_body(np.array([90_000], np.float32), "n")
    with running(tmp_path, *flags) as server, one_to_each(server) as kept:
        hangs, other = kept.values()
        assert hangs.ask("POST", "/v2/models/stubborn/infer", long)[0] == 504
        eventually(lambda: readiness(kept.values()) == (400, 400), 5)
        assert other.ask("POST", "/v2/models/quick/infer", quick)[0] == 200
        assert hangs.ask("POST", "/v2/models/quick/infer", quick)[0] == 200
        eventually(lambda: readiness(kept.values()) == (200, 200), callers.LONGEST_S)


def readiness(kept: Iterable[Kept]) -> tuple[int, ...]:
    """Of the server, as each of its processes tells it."""
    return tuple(each.ask("GET", "/v2/health/ready")[0] for each in kept)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_a_run_whose_client_has_gone_is_ended(server: ServerProcess, protocol: str) -> None:
    """There is one instance and no limit: one request runs, the other waits, and the answer to a third shows that the
    run is over."""
    model = f"unlimited_{protocol}"
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        if protocol == "rest":
            gone = [asyncio.ensure_future(callers.rest(server, model, row(ENDLESS))) for _ in range(2)]
        else:
            gone = [asyncio.ensure_future(callers.grpc_call(channel, model, row(ENDLESS))) for _ in range(2)]
        await callers.until_waiting(server, model, 1)
        for each in gone:
            each.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert (await callers.rest(server, model, row(1))).array.tolist() == row(1).tolist()
    assert callers.failures(server, model) == {"CANCELED": 2}
    assert statistics(server, model)["execution_count"] == 1


async def test_a_run_whose_deadline_passes_is_ended(server: ServerProcess) -> None:
    reply = await callers.rest(server, "unlimited_late", row(ENDLESS), headers={"X-Request-Timeout": "0.2"})
    assert reply.status == 504
    assert (await callers.rest(server, "unlimited_late", row(1))).status == 200


def test_a_limit_that_is_no_number_fails_the_load(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.doubler(), config=own_limit("soon"))
    shown = finished("models", tmp_path, "--calibration-cache=none")
    assert shown.returncode == 1
    assert "'max_execution_secs' expects a number of seconds, 0 or more, got 'soon'" in shown.stdout
