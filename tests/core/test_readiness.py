"""Which models keep a server from being ready: those that should be served, and of which no version is."""

import asyncio
import hashlib
import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ensembles
import onnx_models
import pytest

from ortolan.core.load_override import LoadOverride
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits

EIGHT = "max_batch_size: 8\n"
WHOLE = onnx_models.adder(1).SerializeToString()


@asynccontextmanager
async def manager_of(*roots: Path, patience_s: float = 0.0) -> AsyncIterator[ModelManager]:
    options = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
    manager = ModelManager(roots, options, QueueLimits(100), load_threads=2, patience_s=patience_s)
    yield manager
    await manager.stop()


def put(root: Path, name: str, version: int = 1) -> Path:
    return onnx_models.save_version(root, name, onnx_models.adder(1), version, EIGHT)


def reason(manager: ModelManager, version: str = "1", name: str = "m") -> str:
    return next(entry.reason for entry in manager.index() if (entry.name, entry.version) == (name, version))


def numbers(manager: ModelManager, name: str = "m") -> list[str]:
    return [entry.version for entry in manager.index() if entry.name == name]


async def test_a_bad_new_version_beside_one_that_serves_leaves_the_server_ready(tmp_path: Path) -> None:
    put(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        (tmp_path / "m" / "9").mkdir()
        (tmp_path / "m" / "9" / "model.onnx").write_bytes(WHOLE[:50])
        await manager.poll()
        assert "damaged, truncated" in reason(manager, "9")
        assert (manager.ready_numbers("m"), manager.all_ready()) == ([1], True)
        shutil.rmtree(tmp_path / "m" / "1")
        await manager.poll()
        assert manager.all_ready(), "what serves is kept for as long as nothing else does"


async def test_an_override_that_fails_leaves_the_server_ready_and_no_version_behind(tmp_path: Path) -> None:
    put(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        for number in (9, 10):
            with pytest.raises(InvalidArgument):
                await manager.load("m", LoadOverride("{}", {f"{number}/model.onnx": b"junk"}))
            assert manager.all_ready()
        await manager.load("m", LoadOverride("{}", {"11/model.onnx": WHOLE}))
        assert manager.ready_numbers("m") == [11]
        await manager.load("m")
        while "11" in numbers(manager):
            await manager.look()
        assert numbers(manager) == ["1"]
        assert manager.all_ready()


async def test_a_version_of_the_repository_that_was_unloaded_stays_in_the_index(tmp_path: Path) -> None:
    put(tmp_path, "m")
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        await manager.load("m", LoadOverride("{}", {"11/model.onnx": WHOLE}))
        while reason(manager) != "unloaded":
            await manager.look()
        assert numbers(manager) == ["1", "11"]


async def test_a_failed_override_is_told_as_what_it_was(tmp_path: Path) -> None:
    put(tmp_path, "m")
    config = json.dumps({"max_batch_size": 8, "input": [{"name": "z", "data_type": "TYPE_FP32", "dims": [4]}]})
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        with pytest.raises(InvalidArgument, match="the configuration that a client sent failed to load: "):
            await manager.load("m", LoadOverride(config))
        assert reason(manager).startswith("the configuration that a client sent failed to load: ")
        with pytest.raises(InvalidArgument, match="the files that a client sent failed to load: "):
            await manager.load("m", LoadOverride("{}", {"1/model.onnx": b"junk"}))


async def test_an_ensemble_that_loses_a_model_of_the_repository_is_missed_until_it_is_back(tmp_path: Path) -> None:
    for name in ("one", "ten"):
        put(tmp_path, name)
    ensembles.save_like_a_model(tmp_path, "inner", "one", "ten")
    ensembles.save(tmp_path, "outer", ensembles.config(ensembles.chain("inner")))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        (tmp_path / "one").rename(tmp_path.parent / "away")
        await manager.poll()
        assert (manager.all_ready(), manager.is_missed("inner"), manager.is_missed("outer")) == (False, True, True)
        (tmp_path.parent / "away").rename(tmp_path / "one")
        await manager.poll()
        assert manager.all_ready()
        assert manager.ready_numbers("outer") == [1]
        (tmp_path / "one").rename(tmp_path.parent / "away")
        await manager.poll()
        for name in ("inner", "outer"):
            shutil.rmtree(tmp_path / name)
        await manager.poll()
        assert manager.all_ready()


async def test_an_ensemble_that_lost_a_model_is_missed_until_it_is_unloaded(tmp_path: Path) -> None:
    put(tmp_path, "one")
    ensembles.save(tmp_path, "sum", ensembles.config(ensembles.chain("one")))
    async with manager_of(tmp_path) as manager:
        await manager.load_all()
        shutil.rmtree(tmp_path / "one")
        await manager.poll()
        assert not manager.all_ready()
        await manager.unload("sum")
        assert manager.all_ready()


# -- files that may still be on their way ------------------------------------------------------------------------------


async def test_a_version_that_is_cut_short_is_told_as_incomplete_until_its_files_have_rested(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with manager_of(tmp_path, patience_s=0.5) as manager:
        await manager.load_all()
        caplog.clear()
        file = tmp_path / "m" / "1" / "model.onnx"
        file.parent.mkdir(parents=True)
        with caplog.at_level(logging.WARNING):
            file.write_bytes(WHOLE[:50])
            await manager.poll()
            assert reason(manager).startswith("incomplete, trying again when it changes: ONNX Runtime cannot load")
            assert manager.all_ready()
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            async with asyncio.timeout(10):
                while manager.all_ready():  # noqa: ASYNC110 - the manager tells it by its answers only
                    await asyncio.sleep(0.01)
        assert reason(manager).startswith("ONNX Runtime cannot load")
        assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
        file.write_bytes(WHOLE)
        await manager.poll()
        assert (manager.all_ready(), reason(manager)) == (True, "")


async def test_a_version_whose_file_is_not_there_yet_is_told_as_incomplete(tmp_path: Path) -> None:
    async with manager_of(tmp_path, patience_s=60) as manager:
        await manager.load_all()
        directory = tmp_path / "m"
        for made, told in (("config.pbtxt", "no version found"), ("1", "has no file 'model.onnx'")):
            if made == "1":
                (directory / made).mkdir()
            else:
                directory.mkdir()
                (directory / made).write_text(EIGHT)
            await manager.poll()
            said = manager.index()[0].reason
            assert said.startswith("incomplete, trying again when it changes: ")
            assert told in said
            assert manager.all_ready()
        (directory / "1" / "model.onnx").write_bytes(WHOLE)
        await manager.poll()
        assert (manager.ready_numbers("m"), manager.all_ready()) == ([1], True)


async def test_a_manifest_that_is_behind_its_files_is_waited_for(tmp_path: Path) -> None:
    directory = put(tmp_path, "m")

    def write_manifest() -> None:
        files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "SHA256SUMS"]
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory)}\n" for path in files]
        (directory / "SHA256SUMS").write_text("".join(lines))

    write_manifest()
    async with manager_of(tmp_path, patience_s=60) as manager:
        await manager.load_all()
        put(tmp_path, "m", version=2)
        await manager.poll()
        told = "incomplete, trying again when it changes: model 'm': '2/model.onnx' is not in its SHA256SUMS"
        assert reason(manager, "2") == told
        assert (manager.ready_numbers("m"), manager.all_ready()) == ([1], True)
        write_manifest()
        await manager.poll()
        assert manager.ready_numbers("m") == [2]


async def test_what_cannot_be_incomplete_fails_at_once(tmp_path: Path) -> None:
    async with manager_of(tmp_path, patience_s=60) as manager:
        await manager.load_all()
        onnx_models.save_version(tmp_path, "m", onnx_models.adder(1), config="max_batch_sise: 8")
        await manager.poll()
        assert "max_batch_sise" in manager.index()[0].reason
        assert "incomplete" not in manager.index()[0].reason
        assert not manager.all_ready()


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", ["config.pbtxt", "1/model.onnx"])
async def test_what_is_wrong_with_a_model_that_ensembles_need_is_logged_once_with_its_name_once(
    tmp_path: Path, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = put(tmp_path, "pre")
    (directory / spoilt).write_text("nonsense")
    ensembles.save_like_a_model(tmp_path, "inner", "pre")
    ensembles.save(tmp_path, "outer", ensembles.config(ensembles.chain("inner", "pre")))
    async with manager_of(tmp_path) as manager:
        with caplog.at_level(logging.ERROR):
            await manager.load_all()
    lines = [record.getMessage() for record in caplog.records]
    (about,) = (line for line in lines if line.startswith("model 'pre'"))
    assert "cannot be served: model 'pre'" not in about


async def test_a_client_s_load_of_an_ensemble_logs_each_failure_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (put(tmp_path, "pre") / "1" / "model.onnx").write_text("nonsense")
    ensembles.save_like_a_model(tmp_path, "inner", "pre")
    ensembles.save(tmp_path, "outer", ensembles.config(ensembles.chain("inner", "pre")))
    async with manager_of(tmp_path) as manager:
        await manager.load_all([])
        with caplog.at_level(logging.ERROR), pytest.raises(InvalidArgument):
            await manager.load("outer")
    starts = [record.getMessage().partition(" version")[0] for record in caplog.records]
    assert sorted(starts) == ["model 'inner'", "model 'outer'", "model 'pre'"]
