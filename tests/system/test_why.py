"""What the server tells people of its batching: in metadata, statistics, ``models --explain`` and with each answer."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import callers
import grpc
import numpy as np
import onnx_models
import pytest
from callers import get, row, statistics, timing_of
from server_process import ServerProcess, finished, running

IO = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
SPLIT = 'parameters { key: "oversize_requests" value { string_value: "split" } }\n'
AUTOMATIC = "automatic, by the measured cost curve"
ONE_BY_ONE = "the configuration has no dynamic_batching: requests run one by one"
EXPLICIT = "as the configuration says"
MODELS = {
    "automatic": (onnx_models.doubler(), "max_batch_size: 8\n"),
    "one_by_one": (onnx_models.doubler(), IO),
    "by_order": (onnx_models.doubler(), IO + "dynamic_batching { max_queue_delay_microseconds: 100 }"),
    "fixed": (onnx_models.doubler((4,)), ""),
    "quantised": (onnx_models.dynamically_quantised(), "max_batch_size: 8\n"),
    "first_row": (onnx_models.first_row(), "max_batch_size: 8\n"),
    "split": (onnx_models.doubler(), "max_batch_size: 8\n" + SPLIT),
}
REASONS = {
    "automatic": (AUTOMATIC, "bitwise"),
    "one_by_one": (ONE_BY_ONE, "bitwise"),
    "by_order": (EXPLICIT, "bitwise"),
    "fixed": ("the model has no batch dimension", "untested"),
    "quantised": (
        "not batched across requests, because its dynamic quantisation takes one scale from the whole batch, so that "
        "neighbours change an answer",
        "unsafe",
    ),
    "first_row": (
        "not batched across requests, because its output 'y' does not keep the batch dimension",
        "unsafe",
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    for name, (proto, config) in MODELS.items():
        onnx_models.save_version(repository, name, proto, config=config)
    return repository


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--calibration-cache=none", "--server-timing") as server:
        yield server


@pytest.mark.parametrize("model", REASONS)
def test_metadata_and_statistics_say_how_a_model_is_batched_and_why(server: ServerProcess, model: str) -> None:
    reason, invariance = REASONS[model]
    properties = get(server, f"/v2/models/{model}")["properties"]
    assert (properties["batching"], properties["batch_invariance"]) == (reason, invariance)
    batching = statistics(server, model)["batching"]
    assert (batching["reason"], batching["batch_invariance"]) == (reason, invariance)
    assert batching["gain"] >= 1
    assert [point["rows"] for point in batching["curve"]][:1] == [1]
    assert all(point["duration_ns"] > 0 for point in batching["curve"])


def test_measuring_and_warming_up_stay_out_of_the_statistics(server: ServerProcess) -> None:
    found = statistics(server, "first_row")
    assert (found["execution_count"], found["inference_count"], found["batch_stats"]) == (0, 0, [])


def test_the_command_line_explains_it_too(repository: Path) -> None:
    shown = finished("models", repository, "--explain", "--calibration-cache=none")
    assert shown.returncode == 0
    for model, (reason, invariance) in REASONS.items():
        explained = shown.stdout.partition(f"\n{model} version 1: ")[2].partition("\n\n")[0].splitlines()
        assert explained[0] == reason
        assert explained[1] == f"  answers in a batch compared with single ones: {invariance}"
        assert "1 rows" in explained[2]
    assert "explain" not in finished("models", repository, "--calibration-cache=none").stdout


# -- where the time went -----------------------------------------------------------------------------------------------


def check_timing(timing: dict[str, float], rows: int) -> None:
    assert timing.keys() == {"queue", "batch", "compute", "encode"}
    assert timing["batch"] == rows
    assert timing["compute"] > 0
    assert 0 <= timing["queue"] < 1000 * callers.LONGEST_S
    assert timing["encode"] >= 0


@pytest.mark.parametrize("model", ["automatic", "one_by_one", "fixed"])
async def test_every_answer_over_http_says_where_its_time_went(server: ServerProcess, model: str) -> None:
    rows = 1 if model == "fixed" else 3
    array = row()[0] if model == "fixed" else row(rows=3)
    reply = await callers.rest(server, model, array)
    check_timing(reply.timing, rows)
    binary = await callers.rest(server, model, array, parameters={"binary_data_output": True})
    assert binary.headers["content-type"] == "application/octet-stream"
    check_timing(binary.timing, rows)


async def test_calls_say_it_in_their_trailing_metadata_where_the_operator_asks_for_it(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        call = callers.grpc_call(channel, "automatic", row(rows=2))
        await call
        check_timing(timing_of(dict(await call.trailing_metadata())["server-timing"]), 2)


async def test_calls_say_nothing_where_the_operator_does_not(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "m", onnx_models.doubler())
    with running(tmp_path, "--calibration-cache=none") as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            call = callers.grpc_call(channel, "m", row())
            await call
            assert "server-timing" not in dict(await call.trailing_metadata())
        check_timing((await callers.rest(server, "m", row())).timing, 1)


# -- requests with too many rows ---------------------------------------------------------------------------------------


async def test_a_request_with_too_many_rows_is_refused_with_the_number_allowed(server: ServerProcess) -> None:
    reply = await callers.rest(server, "automatic", row(rows=9))
    assert reply.status == 400
    assert "batch-size must be <= 8 for 'automatic', got 9" in reply.json["error"]
    assert "'oversize_requests'" in reply.json["error"]


async def test_a_request_with_too_many_rows_is_split_and_merged_where_the_model_says_so(server: ServerProcess) -> None:
    array = np.arange(80, dtype=np.float32).reshape(20, 4)
    before = statistics(server, "split")["inference_count"]
    reply = await callers.rest(server, "split", array)
    assert reply.array.tolist() == (2 * array).tolist()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        response = await callers.grpc_call(channel, "split", array)
    assert callers.grpc_array(response).tolist() == (2 * array).tolist()
    assert statistics(server, "split")["inference_count"] - before == 40
    assert set(callers.batches(server, "split")) == {8, 4}


# -- in place and in a thread ------------------------------------------------------------------------------------------


async def test_what_is_run_in_place_and_what_is_not_is_answered_and_counted_alike(server: ServerProcess) -> None:
    """``by_order`` waits 0.1 ms for others in an instance's thread; ``one_by_one`` is small enough for the loop."""
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(1, 4)).astype(np.float32) for _ in range(20)]
    found: dict[str, Any] = {}
    for model in ("one_by_one", "by_order"):
        before = statistics(server, model)
        answers = [(await callers.rest(server, model, array)).array.tolist() for array in arrays]
        after = statistics(server, model)
        names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        counts = [after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] for name in names]
        executions = [after[name] - before[name] for name in ("inference_count", "execution_count")]
        found[model] = (answers, counts, executions)
    assert found["one_by_one"] == found["by_order"]
    assert found["one_by_one"][1:] == ([20, 0, 20, 20, 20, 20], [20, 20])


# -- the calibration cache ---------------------------------------------------------------------------------------------


def test_what_was_measured_is_kept_in_the_users_cache_or_where_the_operator_says_or_nowhere(
    repository: Path, tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    finished("models", repository, "--calibration-cache=none", environment=environment)
    assert list(tmp_path.iterdir()) == []
    finished("models", repository, f"--calibration-cache={tmp_path / 'mine'}", environment=environment)
    assert not (tmp_path / "cache").exists()
    finished("models", repository, environment=environment)
    kept = list((tmp_path / "cache" / "ortolan" / "calibration").iterdir())
    assert sorted(file.name for file in kept) == sorted(file.name for file in (tmp_path / "mine").iterdir())
    assert all(json.loads(file.read_text())["points"] for file in kept)


def test_what_was_kept_is_used(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.doubler())
    cache = f"--calibration-cache={tmp_path / 'cache'}"
    finished("models", tmp_path / "models", cache)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"points": [[1, 123_456_000, 7]]}))
    shown = finished("models", tmp_path / "models", cache, "--explain")
    assert "123456.0 us" in shown.stdout
    assert "requests run one by one, though max_batch_size allows 4: larger batches gain nothing" in shown.stdout
    assert "a single row runs in an instance thread" in shown.stdout


def test_a_warm_up_sample_that_fails_is_named_and_the_model_is_not_served(tmp_path: Path) -> None:
    sample = 'inputs { key: "x" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "index" } }'
    config = f'max_batch_size: 8 model_warmup [ {{ name: "wrong index" batch_size: 2 {sample} }} ]'
    onnx_models.save_version(tmp_path, "m", onnx_models.gather(), config=config)
    (tmp_path / "m" / "warmup").mkdir()
    (tmp_path / "m" / "warmup" / "index").write_bytes(np.array([9]).tobytes())
    shown = finished("models", tmp_path, "--calibration-cache=none")
    assert shown.returncode == 1
    assert "m  NOT SERVED: version 1 is at UNAVAILABLE state: failed to run warmup sample 'wrong index'" in shown.stdout


async def test_a_ready_models_warm_up_is_over_and_not_in_its_statistics(tmp_path: Path) -> None:
    """Thirty runs of some milliseconds each: a request that had to wait for them would show it."""
    kinds = ("zero_data: true", "random_data: true", 'input_data_file: "row"')
    samples = ", ".join(
        f'{{ name: "{number}" batch_size: 2 count: 10 inputs {{ key: "x" value '
        f"{{ data_type: TYPE_FP32 dims: [ 4 ] {kind} }} }} }}"
        for number, kind in enumerate(kinds)
    )
    config = f"max_batch_size: 8 model_warmup [ {samples} ]"
    onnx_models.save_version(tmp_path, "m", onnx_models.slow(1000), config=config)
    (tmp_path / "m" / "warmup").mkdir()
    (tmp_path / "m" / "warmup" / "row").write_bytes(row(1).tobytes())
    with running(tmp_path, "--calibration-cache=none") as server:
        found = statistics(server, "m")
        assert (found["execution_count"], found["inference_stats"]["success"]["count"]) == (0, 0)
        await asyncio.gather(*(callers.rest(server, "m", row()) for _ in range(3)))
        found = statistics(server, "m")
        assert found["inference_count"] == 3
