"""Models as they come, change, fail and go, in real directories with real sessions."""

import asyncio
import json
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.core.load_override import LoadOverride
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.model_records import IndexEntry
from ortolan.errors import DeadlineExceeded, InvalidArgument, NotFound, StartupError, Unavailable
from ortolan.execution.calibration_cache import CalibrationCache
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
LIMITS = QueueLimits(1000)
ALL = "version_policy { all {} }"


@asynccontextmanager
async def manager_of(
    *roots: Path, options: LoadingOptions = OPTIONS, limits: QueueLimits = LIMITS
) -> AsyncIterator[ModelManager]:
    manager = ModelManager(roots, options, limits, load_threads=2)
    yield manager
    await manager.stop()


def put(root: Path, name: str, proto: onnx.ModelProto, version: int = 1, config: str = "") -> Path:
    """The model's directory. A file that is written again gets a later time, however quickly that happens."""
    file = root / name / str(version) / "model.onnx"
    before_ns = file.stat().st_mtime_ns if file.exists() else 0
    directory = onnx_models.save_version(root, name, proto, version, config)
    later(file, before_ns)
    return directory


def spoil(root: Path, name: str, version: int = 1) -> None:
    file = root / name / str(version) / "model.onnx"
    before_ns = file.stat().st_mtime_ns
    file.write_bytes(b"this is no model")
    later(file, before_ns)


def later(file: Path, before_ns: int) -> None:
    now_ns = max(file.stat().st_mtime_ns, before_ns + 1_000_000_000)
    os.utime(file, ns=(now_ns, now_ns))


async def ask(manager: ModelManager, name: str = "m", version: str = "", value: float = 0) -> float:
    """The first number of the answer to a row of ``value``."""
    x = np.full((1, 4), value, np.float32)
    request = InferenceRequest(name, version, inputs=(Tensor("x", FP32, x.shape, x),))
    response = await manager.find(name, version).infer(request)
    return float(response.outputs[0].array.flat[0])


def states(manager: ModelManager, name: str = "m") -> dict[str, str]:
    return {entry.version: entry.state for entry in manager.index() if entry.name == name}


def reason(manager: ModelManager, name: str = "m", version: str = "1") -> str:
    return next(entry.reason for entry in manager.index() if (entry.name, entry.version) == (name, version))


async def settled(manager: ModelManager, name: str = "m") -> None:
    """Return once nothing of the model is on its way out any more."""
    while "UNLOADING" in states(manager, name).values():  # noqa: ASYNC110 - the manager tells it in the index only
        await asyncio.sleep(0)


async def test_all_models_are_loaded_and_what_fails_says_why(tmp_path: Path) -> None:
    put(tmp_path, "a", onnx_models.adder(1))
    put(tmp_path, "b", onnx_models.adder(2), 3)
    put(tmp_path, "bad", onnx_models.adder(0))
    spoil(tmp_path, "bad")
    put(tmp_path, "worse", onnx_models.adder(0), config="nonsense")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        assert (await ask(manager, "a"), await ask(manager, "b"), await ask(manager, "b", "3")) == (1, 2, 2)
        assert [(version.name, version.number) for version in manager.serving()] == [("a", 1), ("b", 3)]
        assert list(manager.failures()) == ["bad", "worse"]
        assert "version 1 is at UNAVAILABLE state: ONNX Runtime cannot load" in manager.failures()["bad"][0]
        index = manager.index()
        assert index[:2] == [IndexEntry("a", "1", "READY"), IndexEntry("b", "3", "READY")]
        assert (index[2].version, index[2].state) == ("1", "UNAVAILABLE")
        assert (index[3].version, index[3].state) == ("", "UNAVAILABLE")
        assert "nonsense" in index[3].reason
        assert not manager.all_ready()
        assert str(tmp_path) not in str(index)


async def test_only_the_models_that_are_named_are_loaded(tmp_path: Path) -> None:
    put(tmp_path, "a", onnx_models.adder(1))
    put(tmp_path, "b", onnx_models.adder(2))
    async with manager_of(tmp_path) as manager:
        await manager.load_all(["b"])
        assert manager.index() == [IndexEntry("a"), IndexEntry("b", "1", "READY")]
        assert manager.all_ready()
        await manager.load_all(["nowhere"])
        assert manager.failures() == {"nowhere": ["no such model in the repository"]}
        assert not manager.all_ready()


async def test_an_empty_repository_is_ready(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        assert manager.index() == []
        assert manager.all_ready()


async def test_a_repository_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    async with manager_of(tmp_path / "nowhere") as manager:
        with pytest.raises(StartupError, match="does not exist"):
            await manager.load_all()


async def test_versions_are_those_of_the_policy_and_the_newest_is_the_default(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        put(tmp_path, "m", onnx_models.adder(number), number, ALL)
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        assert manager.ready_numbers("m") == [1, 2, 10]
        assert [await ask(manager, "m", version) for version in ("", "1", "2", "10")] == [10, 1, 2, 10]


async def test_a_new_version_takes_over_and_the_old_one_goes(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "m", onnx_models.adder(2), 2)
        await manager.load("m")
        assert await ask(manager) == 2
        with pytest.raises(Unavailable, match="'m' version 1 is not at ready state"):
            manager.find("m", "1")
        await settled(manager)
        assert states(manager) == {"1": "UNAVAILABLE", "2": "READY"}
        assert reason(manager) == "unloaded"
        assert manager.all_ready()


async def test_a_new_version_that_fails_leaves_the_old_one_serving(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "m", onnx_models.adder(2), 2)
        spoil(tmp_path, "m", 2)
        with pytest.raises(
            InvalidArgument, match=r"load failed for model 'm': version 2 is at UNAVAILABLE state: ONNX"
        ):
            await manager.load("m")
        assert await ask(manager) == 1
        assert states(manager) == {"1": "READY", "2": "UNAVAILABLE"}


async def test_a_failed_version_that_is_not_wanted_any_more_is_forgiven(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    spoil(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        assert not manager.all_ready()
        put(tmp_path, "m", onnx_models.adder(2), 2)
        await manager.load("m")
        assert await ask(manager) == 2
        assert manager.all_ready()
        assert manager.failures() == {}


async def test_a_reload_swaps_the_answers_and_no_request_fails(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "m", onnx_models.adder(2))
        reloaded = asyncio.create_task(manager.load("m"))

        async def client() -> list[float]:
            seen = [await ask(manager)]
            while not reloaded.done():
                seen.append(await ask(manager))
            return [*seen, await ask(manager)]

        for seen in await asyncio.gather(*(client() for _ in range(8))):
            assert seen[0] == 1
            assert seen[-1] == 2
            assert seen == sorted(seen)  # never back to the old answers
        await reloaded
        assert states(manager) == {"1": "READY"}


async def test_loading_again_what_did_not_change_does_nothing(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        before = manager.find("m", "")
        await manager.load("m")
        assert manager.find("m", "") is before


async def test_a_change_to_one_version_reloads_no_other(tmp_path: Path) -> None:
    for number in (1, 2):
        put(tmp_path, "m", onnx_models.adder(number), number, ALL)
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        first, second = manager.find("m", "1"), manager.find("m", "2")
        put(tmp_path, "m", onnx_models.adder(20), 2)
        await manager.load("m")
        assert manager.find("m", "1") is first
        assert manager.find("m", "2") is not second
        assert await ask(manager) == 20


async def test_a_reload_that_fails_keeps_the_old_one_serving_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        spoil(tmp_path, "m")
        with pytest.raises(InvalidArgument, match=r"load failed for model 'm': .*the newer files failed to load: ONNX"):
            await manager.load("m")
        assert await ask(manager) == 1
        assert states(manager) == {"1": "READY"}
        assert reason(manager).startswith("the newer files failed to load: ONNX Runtime cannot load model 'm'")
        assert manager.all_ready()  # what was served still is

        put(tmp_path, "m", onnx_models.adder(3))
        await manager.load("m")
        assert (await ask(manager), reason(manager)) == (3, "")


async def test_going_back_to_the_old_files_ends_the_complaint(tmp_path: Path) -> None:
    file = put(tmp_path, "m", onnx_models.adder(1)) / "1" / "model.onnx"
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        shutil.copy2(file, tmp_path / "kept")
        spoil(tmp_path, "m")
        with pytest.raises(InvalidArgument):
            await manager.load("m")
        shutil.copy2(tmp_path / "kept", file)
        await manager.load("m")
        assert (await ask(manager), reason(manager)) == (1, "")


async def test_a_configuration_that_was_spoilt_keeps_the_old_one_serving_and_says_so(tmp_path: Path) -> None:
    directory = put(tmp_path, "m", onnx_models.adder(1), config="max_batch_size: 8")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        (directory / "config.pbtxt").write_text("max_batch_sise: 8")
        with pytest.raises(InvalidArgument, match=r"load failed for model 'm': .*max_batch_sise"):
            await manager.load("m")
        assert await ask(manager) == 1
        assert states(manager) == {"1": "READY"}
        assert "max_batch_sise" in reason(manager)
        assert manager.all_ready()

        (directory / "config.pbtxt").write_text("max_batch_size: 2")
        await manager.load("m")
        assert manager.find("m", "").config.max_batch_size == 2
        assert reason(manager) == ""


async def test_unloading_answers_what_is_inside_and_refuses_what_comes(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.slow_as_asked())
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        values = [100_000.0 + number for number in range(5)]
        inside = [asyncio.create_task(ask(manager, value=value)) for value in values]
        await asyncio.sleep(0)
        await manager.unload("m")
        assert states(manager) == {"1": "UNLOADING"}
        with pytest.raises(NotFound, match="'m' has no available versions"):
            manager.find("m", "")
        with pytest.raises(Unavailable, match="'m' version 1 is not at ready state"):
            manager.find("m", "1")
        assert await asyncio.gather(*inside) == values
        await settled(manager)
        assert manager.index() == [IndexEntry("m", "1", "UNAVAILABLE", "unloaded")]
        assert manager.all_ready()


async def test_a_model_may_be_loaded_again_while_it_drains(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.slow_as_asked())
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        inside = asyncio.create_task(ask(manager, value=100_000))
        await asyncio.sleep(0)
        await manager.unload("m")
        await manager.load("m")
        assert states(manager) == {"1": "READY"}
        assert (await inside, await ask(manager, value=8)) == (100_000, 8)
        await settled(manager)
        assert states(manager) == {"1": "READY"}


async def test_unloading_what_is_not_there_is_fine(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        await manager.unload("nowhere")
        await manager.load_all()
        assert manager.index() == []


async def test_unloading_a_model_that_failed_ends_the_complaint(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    spoil(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        await manager.unload("m")
        assert manager.index() == [IndexEntry("m", "1", "UNAVAILABLE", "unloaded")]
        assert manager.all_ready()
        assert manager.failures() == {}


@pytest.mark.parametrize(
    ("name", "version", "kind", "text"),
    [
        ("nowhere", "", NotFound, "Request for unknown model: 'nowhere' is not found"),
        ("nowhere", "1", NotFound, "Request for unknown model: 'nowhere' is not found"),
        ("m", "2", NotFound, "Request for unknown model: 'm' version 2 is not found"),
        ("m", "one", InvalidArgument, "a model version is a whole number, got 'one'"),
        ("bad", "", NotFound, "Request for unknown model: 'bad' has no available versions: version 1 is at "),
        ("bad", "1", Unavailable, "Request for unknown model: 'bad' version 1 is not at ready state: ONNX Runtime"),
        ("waiting", "", NotFound, "Request for unknown model: 'waiting' is not found"),  # in the repository only
    ],
)
async def test_what_cannot_be_found_is_said_in_tritons_words(
    tmp_path: Path, name: str, version: str, kind: type[Exception], text: str
) -> None:
    for each in ("m", "bad", "waiting"):
        put(tmp_path, each, onnx_models.adder(1))
    spoil(tmp_path, "bad")
    async with manager_of(tmp_path) as manager:
        await manager.load_all(["m", "bad"])
        with pytest.raises(kind) as failure:
            manager.find(name, version)
        assert str(failure.value).startswith(text)


async def test_a_model_that_is_not_in_the_repository_cannot_be_loaded(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        with pytest.raises(InvalidArgument, match="failed to load 'm', failed to poll from model repository: no such"):
            await manager.load("m")
        assert manager.index() == []


async def test_a_name_in_two_repositories_is_served_from_neither(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(first, "m", onnx_models.adder(1))
    put(first, "a", onnx_models.adder(2))
    put(second, "m", onnx_models.adder(3))
    async with manager_of(first, second) as manager:
        await manager.load_all()
        assert await ask(manager, "a") == 2
        assert "model appears in two or more repositories, 'first' and 'second'" in manager.failures()["m"][0]
        with pytest.raises(InvalidArgument, match="model appears in two or more repositories"):
            await manager.load("m")
        shutil.rmtree(second / "m")
        await manager.load("m")
        assert await ask(manager, "m") == 1


async def test_polling_follows_what_appears_changes_and_vanishes(tmp_path: Path) -> None:
    put(tmp_path, "a", onnx_models.adder(1))
    put(tmp_path, "b", onnx_models.adder(2))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "a", onnx_models.adder(10))
        shutil.rmtree(tmp_path / "b")
        put(tmp_path, "c", onnx_models.adder(3))
        await manager.poll()
        assert (await ask(manager, "a"), await ask(manager, "c")) == (10, 3)
        with pytest.raises(NotFound):
            await ask(manager, "b")
        await settled(manager, "b")
        assert manager.all_ready()


async def test_polling_loads_nothing_where_nothing_changed(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        before = manager.find("m", "")
        await manager.poll()
        assert manager.find("m", "") is before


async def test_a_look_at_the_repository_hides_no_change_from_polling(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "m", onnx_models.adder(2))
        put(tmp_path, "n", onnx_models.adder(3))
        await manager.look()
        await manager.poll()
        assert (await ask(manager, "m"), await ask(manager, "n")) == (2, 3)


async def test_polling_tries_what_failed_again_once_it_is_mended_and_not_before(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        spoil(tmp_path, "m")
        await manager.poll()
        said = reason(manager)
        await manager.poll()
        assert "the newer files failed to load" in said == reason(manager)
        assert await ask(manager) == 1
        put(tmp_path, "m", onnx_models.adder(2))
        await manager.poll()
        assert (await ask(manager), reason(manager)) == (2, "")


async def test_a_failed_model_that_vanishes_is_forgotten_by_polling(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    spoil(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        shutil.rmtree(tmp_path / "m")
        await manager.poll()
        assert manager.all_ready()


async def test_loads_and_unloads_from_many_tasks_end_in_order(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for value, name in enumerate(names):
        put(tmp_path, name, onnx_models.adder(value))
    async with manager_of(tmp_path) as manager:

        async def loader(name: str) -> None:
            for _ in range(4):
                await manager.load(name)
                await manager.unload(name)

        async def client(name: str, expected: float) -> None:
            for _ in range(50):
                try:
                    assert await ask(manager, name) == expected
                except (NotFound, Unavailable):
                    await asyncio.sleep(0)

        await asyncio.gather(
            *(loader(name) for name in names * 2), *(client(name, value) for value, name in enumerate(names))
        )
        await asyncio.gather(*(manager.load(name) for name in names * 3))
        assert [await ask(manager, name) for name in names] == [0, 1, 2]
        for name in names:
            await settled(manager, name)
        assert [entry.state for entry in manager.index()] == ["READY"] * 3


async def test_a_load_whose_client_gave_up_goes_on(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        for _ in range(3):
            loading = asyncio.create_task(manager.load("m"))
            while not (states(manager).get("1") or loading.done()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        await manager.load("m")
        assert await ask(manager) == 1
        assert states(manager) == {"1": "READY"}


async def test_stopping_answers_what_is_inside_and_refuses_what_comes(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.slow(50_000))
    manager = ModelManager([tmp_path], OPTIONS, QueueLimits(10))
    await manager.load_all()
    inside = [asyncio.create_task(ask(manager, value=value)) for value in range(4)]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(manager.stop())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="stopped accepting new inference requests"):
        await ask(manager)
    await stopping
    assert [task.result() for task in inside] == [0, 1, 2, 3]


# -- the scheduler's promises, from a repository on --------------------------------------------------------------------


async def test_calibration_and_warm_up_stay_out_of_the_statistics(tmp_path: Path) -> None:
    sample = 'model_warmup [{ name: "w" batch_size: 2 count: 3 inputs { key: "x" value '
    put(
        tmp_path, "m", onnx_models.adder(1), config=sample + "{ data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }]"
    )
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        statistics = manager.find("m", "").statistics
        assert (statistics.execution_count, statistics.inference_count, statistics.success.count) == (0, 0, 0)
        assert statistics.batches == {}
        assert statistics.load_duration_ns > 0


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1, 100_000, 0], [8, 100_000, 0]], {6: 1}),  # a batch costs as much as a single row
        ([[1, 100_000, 0], [8, 800_000, 0]], {1: 6}),  # a row costs as much in a batch as alone
    ],
)
async def test_a_model_is_batched_as_far_as_its_measured_costs_say_that_it_pays(
    tmp_path: Path, points: list[list[int]], expected: dict[int, int]
) -> None:
    """Its own measurements are taken out of the cache, and others put in their place."""
    put(tmp_path / "models", "m", onnx_models.adder(1), config="max_batch_size: 8")
    options = replace(OPTIONS, cache=CalibrationCache(tmp_path / "cache"))
    async with manager_of(tmp_path / "models", options=options) as manager:
        await manager.load_all()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"points": points}))
    limits = QueueLimits(hold_until=6)
    async with manager_of(tmp_path / "models", options=options, limits=limits) as manager:
        await manager.load_all()
        assert await asyncio.gather(*(ask(manager, value=value) for value in range(6))) == [1, 2, 3, 4, 5, 6]
        batches = manager.find("m", "").statistics.batches
        assert {rows: batch.compute_infer.count for rows, batch in batches.items()} == expected


async def test_a_version_whose_run_hangs_is_not_ready_until_it_ends_and_others_answer(tmp_path: Path) -> None:
    limit = 'parameters { key: "max_execution_secs" value { string_value: "0.05" } }'
    put(tmp_path, "stubborn", onnx_models.stubborn(), config=limit)
    put(tmp_path, "m", onnx_models.adder(1))
    n = np.array([55_000], np.float32)
    request = InferenceRequest("stubborn", inputs=(Tensor("n", FP32, n.shape, n),))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        watching = asyncio.create_task(manager.watch())
        stubborn = manager.find("stubborn", "")
        with pytest.raises(DeadlineExceeded, match=r"longer than the 0\.05 s"):
            await stubborn.infer(request)
        while manager.all_ready():
            assert await ask(manager) == 1
            await asyncio.sleep(0.01)
        assert manager.hangs(stubborn)
        assert not manager.hangs(manager.find("m", ""))
        while not manager.all_ready():
            assert await ask(manager) == 1
            await asyncio.sleep(0.01)
        watching.cancel()


async def test_a_large_request_that_comes_just_before_a_reload_is_answered(tmp_path: Path) -> None:
    """Its parts enter the queue one turn of the loop later than it does itself."""
    config = 'max_batch_size: 2 parameters { key: "oversize_requests" value { string_value: "split" } }'
    put(tmp_path, "m", onnx_models.slow(2_000), config=config)
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        x = np.zeros((9, 4), np.float32)
        request = InferenceRequest("m", inputs=(Tensor("x", FP32, x.shape, x),))
        serving = manager.find("m", "")
        task = asyncio.create_task(serving.infer(request))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(serving.refuse_new)  # a reload closes the old version in a task
        assert (await task).outputs[0].shape == (9, 4)


async def test_what_is_told_of_several_versions_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = 'runtime: "r" version_policy { all { } } parameters { key: "odd" value { string_value: "1" } }'
    for number in (1, 2, 3):
        put(tmp_path, "m", onnx_models.adder(number), number, config=config)
    caplog.set_level(logging.WARNING)
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        assert [line.partition(" is ")[0] for line in caplog.messages] == [
            "model 'm' versions 1, 2, 3: its parameter 'odd'",
            "model 'm' versions 1, 2, 3: runtime 'r'",
        ]
        caplog.clear()
        put(tmp_path, "m", onnx_models.adder(4), 4)
        await manager.load("m")
        assert all(line.startswith("model 'm' version 4: ") for line in caplog.messages)
        assert len(caplog.messages) == 2


async def test_what_happens_to_a_model_is_told_in_a_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = put(tmp_path, "m", onnx_models.adder(1))
    caplog.set_level(logging.INFO)
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        put(tmp_path, "m", onnx_models.adder(2), 2)
        await manager.load("m")
        await settled(manager)
        await manager.load("m", LoadOverride("{}"))
        (directory / "config.pbtxt").write_text("max_batch_sise: 8")
        with pytest.raises(InvalidArgument):
            await manager.load("m")
        await manager.unload("m")
        await settled(manager)
    lines = [re.sub(r"[0-9.]+ (s|MiB)\b", r"N \1", line) for line in caplog.messages]
    assert lines[:3] == [
        "model 'm' version 1 is ready (loaded in N s on CPU x1; N MiB of memory)",
        "model 'm' version 2 is ready (loaded in N s on CPU x1; N MiB of memory)",
        "model 'm' version 1 is unloaded",
    ]
    assert "model 'm' serves a configuration that a client sent, until its next load or unload" in lines
    assert any(line.startswith("model 'm' keeps what it serves, its new files do not load: ") for line in lines)
    assert "model 'm' version 2 is unloaded" in lines
    assert not any("cannot be served" in line for line in lines)
