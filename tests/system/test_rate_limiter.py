"""``--rate-limit``: models that share a resource, as the traces of a real server and its readiness tell of them."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import callers
import grpc
import numpy as np
import onnx_models
import pytest
from callers import row
from server_process import ServerProcess, eventually, finished, running

ENDLESS = 1e9
ON = ("--rate-limit=execution_count", "--calibration-cache=none")
LIMITED_RUNS = 'parameters { key: "max_execution_secs" value { string_value: "0.3" } }\n'


def config(count: int, priority: int = 1, instances: int = 1, more: str = "") -> str:
    resources = f'resources [ {{ name: "R" global: true count: {count} }} ]'
    limiter = f"rate_limiter {{ {resources} priority: {priority} }}"
    group = f"instance_group [ {{ count: {instances} kind: KIND_CPU {limiter} }} ]\n"
    return f"max_batch_size: 1\n{group}{more}"


MODELS = {
    "one": config(1, instances=2),
    "two": config(1, instances=2),
    "blocker": config(1),
    "often": config(1, priority=1),
    "seldom": config(1, priority=3),
    "hung": config(1, more=LIMITED_RUNS),
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces") / "trace.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, traces: Path) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    for name, text in MODELS.items():
        onnx_models.save_version(repository, name, onnx_models.slow_as_asked(), config=text)
    onnx_models.save_version(
        repository,
        "stubborn",
        onnx_models.stubborn(),
        config=config(1, more=LIMITED_RUNS).removeprefix("max_batch_size: 1"),
    )
    traced = (f"--trace-config=triton,file={traces}", "--trace-config=level=TIMESTAMPS", "--trace-config=rate=1")
    with running(repository, *ON, *traced) as server:
        yield server


def runs(traces: Path, *models: str) -> list[tuple[int, int, str]]:
    """When each request to ``models`` began and ended to be computed, and by which of them, in order."""
    found: dict[int, dict[str, int]] = {}
    names: dict[int, str] = {}
    events = json.loads(traces.read_bytes()) if traces.exists() and traces.stat().st_size else []
    for event in events:
        if "model_name" in event:
            names[event["id"]] = event["model_name"]
        for stamp in event.get("timestamps", ()):
            found.setdefault(event["id"], {})[stamp["name"]] = stamp["ns"]
    wanted = [(each, found.get(each, {})) for each, name in names.items() if name in models]
    return sorted(
        (stamps["COMPUTE_START"], stamps["COMPUTE_END"], names[each])
        for each, stamps in wanted
        if "COMPUTE_END" in stamps
    )


async def all_runs(traces: Path, since_ns: int, count: int, *models: str) -> list[tuple[int, int, str]]:
    """Those that began after ``since_ns`` on the monotonic clock, once all ``count`` are told."""

    def recent() -> list[tuple[int, int, str]]:
        return [run for run in runs(traces, *models) if run[0] >= since_ns]

    await asyncio.to_thread(eventually, lambda: len(recent()) == count)
    return recent()


async def blocked(server: ServerProcess) -> list[asyncio.Future[callers.Reply]]:
    """Two requests that hold the resource until they are cancelled: one runs, one waits behind it."""
    requests = [asyncio.ensure_future(callers.rest(server, "blocker", row(ENDLESS))) for _ in range(2)]
    await callers.until_waiting(server, "blocker", 1)
    return requests


async def test_models_that_share_a_resource_never_run_at_once(server: ServerProcess, traces: Path) -> None:
    since_ns = time.monotonic_ns()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        over_grpc = [callers.grpc_call(channel, "one", row(2000)) for _ in range(20)]
        rest = [callers.rest(server, "two", row(2000)) for _ in range(20)]
        replies, answers = await asyncio.gather(asyncio.gather(*rest), asyncio.gather(*over_grpc))
    assert [reply.array.tolist() for reply in replies] == [row(2000).tolist()] * 20
    assert [callers.grpc_array(answer).tolist() for answer in answers] == [row(2000).tolist()] * 20
    found = await all_runs(traces, since_ns, 40, "one", "two")
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(found))


async def test_turns_are_shared_by_priority(server: ServerProcess, traces: Path) -> None:
    """Both queues are full before the first turn: what they wait for is held until then."""
    since_ns = time.monotonic_ns()
    blocking = await blocked(server)
    requests = [asyncio.ensure_future(callers.rest(server, "often", row(500))) for _ in range(24)]
    requests += [asyncio.ensure_future(callers.rest(server, "seldom", row(500))) for _ in range(24)]
    await callers.until_waiting(server, "often", 24)
    await callers.until_waiting(server, "seldom", 24)
    for each in blocking:
        each.cancel()
    await asyncio.gather(*requests)
    names = [name for _, _, name in await all_runs(traces, since_ns, 48, "often", "seldom")]
    assert abs(names[:20].count("often") - 15) <= 1, names
    assert names[36:] == ["seldom"] * 12


async def test_a_run_that_is_ended_gives_back_what_it_held(server: ServerProcess) -> None:
    hanging = asyncio.ensure_future(callers.rest(server, "hung", row(ENDLESS)))
    assert (await hanging).status == 504
    assert (await callers.rest(server, "one", row(1))).status == 200
    assert (await callers.rest(server, "hung", row(1))).status == 200


async def test_a_run_that_will_not_end_loses_what_it_held(server: ServerProcess) -> None:
    reply = await callers.rest(server, "stubborn", np.array([70_000], np.float32), "n")
    assert reply.status == 504
    assert (await callers.rest(server, "one", row(1))).status == 200
    async with asyncio.timeout(callers.LONGEST_S):
        while callers.ask(server, "GET", "/v2/models/stubborn/ready").status != 200:
            assert (await callers.rest(server, "two", row(1))).status == 200


async def test_a_request_times_out_while_it_waits_for_a_resource(server: ServerProcess) -> None:
    blocking = await blocked(server)
    late = await callers.rest(server, "one", row(1), headers={"X-Request-Timeout": "0.2"})
    assert late.status == 504
    for each in blocking:
        each.cancel()
    assert (await callers.rest(server, "one", row(1))).status == 200


async def test_unload_swap_and_shutdown_give_resources_back(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "one", onnx_models.slow_as_asked(), config=config(2))
    onnx_models.save_version(tmp_path, "two", onnx_models.slow_as_asked(), config=config(2))
    loads = ("--model-control-mode=explicit", "--load-model=*", "--rate-limit-resource=R:2")
    with running(tmp_path, *ON, *loads) as server:
        for _ in range(5):
            asked = [asyncio.ensure_future(callers.rest(server, "two", row(500))) for _ in range(5)]
            loaded = await asyncio.to_thread(callers.ask, server, "POST", "/v2/repository/models/one/load", {})
            assert loaded.status == 200
            assert [(await each).status for each in asked] == [200] * 5
            assert (await callers.rest(server, "one", row(1))).status == 200
        assert callers.ask(server, "POST", "/v2/repository/models/one/unload", {}).status == 200
        assert (await callers.rest(server, "two", row(1))).status == 200
        text = json.dumps(
            {"instance_group": [{"rate_limiter": {"resources": [{"name": "R", "global": True, "count": 3}]}}]}
        )
        refused = callers.ask(server, "POST", "/v2/repository/models/one/load", {"parameters": {"config": text}})
        assert refused.status == 400
        assert 'Resource count for \\"R\\" is limited to 2 which will prevent' in refused.body.decode()
        assert (await callers.rest(server, "two", row(1))).status == 200
    assert server.process.returncode == 0


def test_a_model_that_needs_more_than_there_is_is_not_loaded(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.doubler(), config=config(4))
    shown = finished("models", tmp_path, *ON, "--rate-limit-resource=R:3")
    assert shown.returncode == 1
    assert 'Resource count for "R" is limited to 3' in shown.stdout
    assert "the minimum required count is 4" in shown.stdout


def test_without_the_flag_it_has_no_effect_and_the_log_says_so(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.doubler(), config=config(4))
    log = tmp_path / "log"
    with running(tmp_path, "--calibration-cache=none", "--rate-limit-resource=R:3", log=log) as server:
        assert callers.ask(server, "GET", "/v2/models/m/ready").status == 200
        limiter = callers.get(server, "/v2/models/m/config")["instance_group"][0]["rate_limiter"]
        assert limiter == {"resources": [{"name": "R", "global": True, "count": 4}], "priority": 1}
    assert "instance_group.rate_limiter has no effect without --rate-limit=execution_count" in log.read_text()
