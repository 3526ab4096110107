"""What clients and the operator may ask of the repository beside plain loads: by content, by force, by namespace."""

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.core.load_override import LoadOverride
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.errors import InvalidArgument, NotFound, OrtolanError, Unavailable
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor
from ortolan.repository.file_contents import FileContents
from ortolan.repository.override_directory import OverrideDirectories

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
LIMITS = QueueLimits(1000)


def put(root: Path, name: str, proto: onnx.ModelProto, config: str = "") -> Path:
    return onnx_models.save_version(root, name, proto, 1, config)


async def ask(manager: ModelManager, name: str = "m") -> float:
    """The first number of the answer to a row of zeros."""
    x = np.zeros((1, 4), np.float32)
    response = await manager.find(name, "").infer(InferenceRequest(name, inputs=(Tensor("x", FP32, x.shape, x),)))
    return float(response.outputs[0].array.flat[0])


def states(manager: ModelManager, name: str = "m") -> dict[str, str]:
    return {entry.version: entry.state for entry in manager.index() if entry.name == name}


def manager_of(*roots: Path, namespacing: bool = False, quiet_s: float = 0.0) -> ModelManager:
    return ModelManager(roots, OPTIONS, LIMITS, 2, namespacing=namespacing, contents=FileContents(), quiet_s=quiet_s)


async def test_a_load_of_what_was_only_touched_does_nothing(tmp_path: Path) -> None:
    directory = put(tmp_path, "m", onnx_models.adder(1), config="max_batch_size: 8")
    manager = manager_of(tmp_path)
    await manager.load("m")
    before = manager.find("m", "")
    for file in (directory / "config.pbtxt", directory / "1" / "model.onnx"):
        os.utime(file, ns=(1, 1))
    await manager.load("m")
    assert manager.find("m", "") is before
    (directory / "config.pbtxt").write_text("max_batch_size: 9")
    await manager.load("m")
    assert manager.find("m", "").config.max_batch_size == 9
    await manager.stop()


async def test_a_forced_load_loads_anew_what_did_not_change_and_only_once(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    manager = manager_of(tmp_path)
    await manager.load("m", forced=True)
    first = manager.find("m", "")
    await manager.load("m", forced=True)
    second = manager.find("m", "")
    assert second is not first
    await manager.load("m")
    assert manager.find("m", "") is second
    await manager.stop()


async def test_a_forced_load_with_an_override_loads_anew_too(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    manager = manager_of(tmp_path)
    override = LoadOverride(json.dumps({"max_batch_size": 16}))
    await manager.load("m", override)
    first = manager.find("m", "")
    await manager.load("m", override)
    assert manager.find("m", "") is first
    await manager.load("m", override, forced=True)
    assert manager.find("m", "") is not first
    await manager.stop()


async def test_what_clients_ask_of_a_model_is_done_in_their_order(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.adder(1))
    manager = manager_of(tmp_path)
    commands = [manager.load("m"), manager.unload("m"), manager.load("m"), manager.unload("m")]
    await asyncio.gather(*commands)
    with pytest.raises(OrtolanError):
        manager.find("m", "")
    await asyncio.gather(manager.unload("m"), manager.load("m"))
    assert await ask(manager) == 1
    await manager.stop()


async def test_an_unload_while_the_model_is_loading_has_the_last_word(tmp_path: Path) -> None:
    put(tmp_path, "m", onnx_models.chain(2000))
    manager = manager_of(tmp_path)
    loading = asyncio.create_task(manager.load("m"))
    while states(manager) != {"1": "LOADING"}:  # noqa: ASYNC110 - the manager tells it in the index only
        await asyncio.sleep(0)
    await manager.unload("m")
    await loading
    assert states(manager)["1"] in ("UNLOADING", "UNAVAILABLE")
    await manager.stop()


async def test_a_name_that_nobody_has_leaves_nothing_behind(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    for name in ("a", "b"):
        with pytest.raises(InvalidArgument, match="no such model"):
            await manager.load(name)
        await manager.unload(name)
    assert manager.index() == []
    await manager.stop()


async def test_what_was_in_the_repository_once_is_remembered_and_what_a_client_only_sent_is_not(tmp_path: Path) -> None:
    directory = put(tmp_path / "repository", "m", onnx_models.adder(1))
    manager = ModelManager(
        [tmp_path / "repository"], OPTIONS, LIMITS, override_directories=OverrideDirectories(tmp_path)
    )
    await manager.load_all()
    await manager.load("sent", LoadOverride("{}", {"1/model.onnx": onnx_models.adder(2).SerializeToString()}))
    directory.rename(tmp_path / "away")
    await manager.unload("sent")
    while manager.knows("sent"):
        await manager.poll()
    while states(manager) != {"1": "UNAVAILABLE"}:  # noqa: ASYNC110 - the manager tells it in the index only
        await asyncio.sleep(0)
    await manager.poll()
    assert [(entry.name, entry.state, entry.reason) for entry in manager.index()] == [("m", "UNAVAILABLE", "unloaded")]
    await manager.stop()


async def test_a_model_is_known_by_every_name_by_which_clients_may_call_it(namespaces: tuple[Path, Path]) -> None:
    manager = manager_of(*namespaces, namespacing=True)
    await manager.load_all()
    names = ("single", "x::single", "m", "x::m", "y::m", "y::single", "other")
    assert [manager.knows(name) for name in names] == [True, True, True, True, True, False, False]
    await manager.stop()


@pytest.fixture
def namespaces(tmp_path: Path) -> tuple[Path, Path]:
    """Repositories ``x`` and ``y``, which both have a model ``m``; ``single`` is in ``x`` only."""
    put(tmp_path / "x", "m", onnx_models.adder(1), config='name: "m"')
    put(tmp_path / "y", "m", onnx_models.adder(2), config='name: "m"')
    put(tmp_path / "x", "single", onnx_models.adder(3))
    return tmp_path / "x", tmp_path / "y"


async def test_with_namespaces_models_of_one_name_are_served_by_their_full_names(
    namespaces: tuple[Path, Path],
) -> None:
    manager = manager_of(*namespaces, namespacing=True)
    await manager.load_all()
    assert [await ask(manager, name) for name in ("x::m", "y::m", "single", "x::single")] == [1, 2, 3, 3]
    assert [entry.name for entry in manager.index()] == ["single", "x::m", "y::m"]
    assert manager.all_ready()
    await manager.stop()


async def test_a_name_that_two_namespaces_have_is_refused_with_the_names_to_choose_from(
    namespaces: tuple[Path, Path],
) -> None:
    manager = manager_of(*namespaces, namespacing=True)
    await manager.load_all()
    said = "model 'm' is in two or more repositories; say which one is meant: x::m, y::m"
    with pytest.raises(InvalidArgument, match=said):
        manager.find("m", "")
    with pytest.raises(InvalidArgument, match=said):
        await manager.load("m")
    with pytest.raises(InvalidArgument, match=said):
        await manager.unload("m")
    for name in ("y::single", "z::m", "::m", "m::"):
        with pytest.raises(NotFound):
            manager.find(name, "")
    await manager.unload("y::m")
    assert await ask(manager, "x::m") == 1
    await manager.stop()


async def test_without_namespaces_a_full_name_is_no_name(namespaces: tuple[Path, Path]) -> None:
    manager = manager_of(*namespaces)
    await manager.load_all()
    with pytest.raises(NotFound):
        manager.find("x::single", "")
    said = (
        "model appears in two or more repositories, 'x' and 'y': remove it from all but one, or serve x::m and y::m "
        "with --model-namespacing"
    )
    assert manager.failures() == {"m": [said]}
    await manager.stop()


async def test_a_name_that_a_second_repository_takes_goes_on_by_its_full_name(tmp_path: Path) -> None:
    put(tmp_path / "x", "m", onnx_models.adder(1))
    (tmp_path / "y").mkdir()
    manager = manager_of(tmp_path / "x", tmp_path / "y", namespacing=True)
    await manager.load_all()
    assert (await ask(manager, "m"), await ask(manager, "x::m")) == (1, 1)
    put(tmp_path / "y", "m", onnx_models.adder(2))
    await manager.poll()
    assert (await ask(manager, "x::m"), await ask(manager, "y::m")) == (1, 2)
    with pytest.raises(InvalidArgument, match="say which one is meant"):
        manager.find("m", "")
    await manager.stop()


async def test_while_one_repository_is_away_the_models_of_another_are_loaded(tmp_path: Path) -> None:
    put(tmp_path / "x", "m", onnx_models.adder(1))
    manager = manager_of(tmp_path / "x", tmp_path / "away")
    await manager.load("m")
    assert await ask(manager) == 1
    with pytest.raises(Unavailable, match="cannot be read now"):
        await manager.load("n")  # it may be in the one that is away
    await manager.stop()


async def test_a_server_that_waits_for_a_repository_is_not_ready_until_it_has_come(tmp_path: Path) -> None:
    put(tmp_path / "x", "m", onnx_models.adder(1))
    manager = manager_of(tmp_path / "x", tmp_path / "late")
    await manager.load_all(wait_for_roots=True)
    assert (await ask(manager), manager.all_ready()) == (1, False)
    put(tmp_path / "late", "n", onnx_models.adder(2))
    await manager.poll()
    assert (await ask(manager, "n"), manager.all_ready()) == (2, True)
    (tmp_path / "late").rename(tmp_path / "away")
    await manager.poll()
    assert (await ask(manager, "n"), manager.all_ready()) == (2, True)
    await manager.stop()


async def test_of_what_happens_to_a_model_while_it_loads_only_the_last_counts(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    await manager.load_all()
    for value in range(1, 6):
        put(tmp_path, "m", onnx_models.adder(value))
        await manager.follow()
    await manager.poll()
    assert await ask(manager) == 5
    await manager.stop()
