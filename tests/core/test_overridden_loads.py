"""Models loaded as a client says, in real directories with real sessions: what serves, and for how long."""

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest

from ortolan.core.load_override import LoadOverride
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.model_records import IndexEntry
from ortolan.errors import InvalidArgument, NotFound
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor
from ortolan.repository import config_rendering
from ortolan.repository.override_directory import OverrideDirectories

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))


@asynccontextmanager
async def manager_of(root: Path, load: bool = True) -> AsyncIterator[ModelManager]:
    """A manager of the repository below ``root``, which keeps what clients send below it as well."""
    repository, sent = root / "repository", root / "sent"
    repository.mkdir(exist_ok=True)
    sent.mkdir(exist_ok=True)
    manager = ModelManager([repository], OPTIONS, QueueLimits(100), 2, override_directories=OverrideDirectories(sent))
    if load:
        await manager.load_all()
    yield manager
    assert not [path for directory in sent.iterdir() for path in directory.iterdir()], "a load left files behind"
    await manager.stop()
    assert not any(sent.iterdir())


def put(root: Path, proto: onnx.ModelProto, version: int = 1, config: str = "") -> None:
    onnx_models.save_version(root / "repository", "m", proto, version, config)


def override(proto: onnx.ModelProto | None = None, version: int = 1, **config: Any) -> LoadOverride:
    files = {} if proto is None else {f"{version}/model.onnx": proto.SerializeToString()}
    return LoadOverride(json.dumps(config), files)


def received(root: Path) -> list[Path]:
    """The directories of what clients sent that are there now."""
    return list(root.glob("sent/ortolan-models-*/*"))


async def ask(manager: ModelManager, name: str = "m") -> float:
    x = np.zeros((1, 4), np.float32)
    response = await manager.find(name, "").infer(InferenceRequest(name, "", inputs=(Tensor("x", FP32, x.shape, x),)))
    return float(response.outputs[0].array.flat[0])


def batch_size(manager: ModelManager, name: str = "m") -> int:
    return manager.find(name, "").config.max_batch_size


async def test_a_configuration_replaces_the_files_until_the_next_load_without_one(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1), config='max_batch_size: 8 metric_tags { key: "a" value: "b" }')
    async with manager_of(tmp_path) as manager:
        await manager.load("m", override(max_batch_size=2))
        assert (batch_size(manager), await ask(manager)) == (2, 1)
        # As a whole: what it does not say is not taken from the file.
        assert not manager.find("m", "").config.metric_tags
        first = manager.find("m", "")
        await manager.load("m", override(max_batch_size=2))
        assert manager.find("m", "") is first, "nothing changed, so nothing is to be loaded"
        await manager.load("m", override(max_batch_size=3))
        assert batch_size(manager) == 3
        await manager.load("m")
        assert batch_size(manager) == 8
        assert manager.index() == [IndexEntry("m", "1", "READY")]


async def test_an_unload_forgets_the_configuration_too(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1), config="max_batch_size: 8")
    async with manager_of(tmp_path) as manager:
        await manager.load("m", override(max_batch_size=2))
        await manager.unload("m")
        await manager.load("m")
        assert batch_size(manager) == 8


async def test_what_the_server_tells_of_a_model_can_be_sent_back_changed(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1), config="max_batch_size: 8 instance_group { count: 2 kind: KIND_CPU }")
    async with manager_of(tmp_path) as manager:
        told = config_rendering.to_json(manager.find("m", "").config)
        await manager.load("m", LoadOverride(json.dumps(told | {"max_batch_size": 16})))
        assert (batch_size(manager), await ask(manager)) == (16, 1)


async def test_files_replace_the_repositorys_directory_until_the_next_load_without(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1), 1, "version_policy { all {} }")
    put(tmp_path, onnx_models.adder(2), 2)
    async with manager_of(tmp_path) as manager:
        await manager.load("m", override(onnx_models.adder(7)))
        assert (manager.ready_numbers("m"), await ask(manager)) == ([1], 7)
        # The same files again are a load all the same.
        before = manager.find("m", "")
        await manager.load("m", override(onnx_models.adder(7)))
        assert manager.find("m", "") is not before
        await manager.load("m")
        assert (manager.ready_numbers("m"), await ask(manager)) == ([1, 2], 2)


async def test_files_may_be_a_model_that_the_repository_does_not_have(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        files = {
            "5/other.onnx": onnx_models.adder(5).SerializeToString(),
            "labels.txt": b"one\ntwo\n",
            "config.pbtxt": b"this is not read",
        }
        output = {"name": "y", "data_type": "TYPE_FP32", "dims": [4], "label_filename": "labels.txt"}
        config = {"name": "new", "default_model_filename": "other.onnx", "output": [output]}
        await manager.load("new", LoadOverride(json.dumps(config), files))
        assert await ask(manager, "new") == 5
        assert manager.find("new", "").loaded.labels == {"y": ("one", "two")}
        await manager.look()
        assert manager.index() == [IndexEntry("new", "5", "READY")]
        assert manager.all_ready()
        with pytest.raises(InvalidArgument, match="no such model in it"):
            await manager.load("new")
        assert await ask(manager, "new") == 5
        await manager.unload("new")
        with pytest.raises(NotFound):
            await ask(manager, "new")


async def test_weights_beside_the_model_come_with_it(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "model.onnx"
    weights = onnx_models.save_externally(onnx_models.with_external_data(4), file)
    files = {"1/model.onnx": file.read_bytes(), "1/weights.bin": weights.read_bytes()}
    async with manager_of(tmp_path) as manager:
        await manager.load("new", LoadOverride("{}", files))
        x = np.zeros((1, 4), np.float32)
        request = InferenceRequest("new", "", inputs=(Tensor("x", FP32, x.shape, x),))
        response = await manager.find("new", "").infer(request)
        assert response.outputs[0].array.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (LoadOverride("{"), "the configuration of model 'm' cannot be read"),
        (LoadOverride('{"max_batch_sise": 8}'), 'did you mean "max_batch_size"'),
        (LoadOverride('{"name": "n"}'), "directory name must equal model name"),
        (override(version_policy={"specific": {"versions": [9]}}), "at least one version must be available"),
        (LoadOverride("{}", {"model.txt": b""}), "no version found: expected a directory with a positive number"),
        (override(model_operations={"op_library_filename": ["/opt/ops.so"]}), "names a file of the server"),
        (LoadOverride("[" * 5000), "cannot be read"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(tmp_path: Path, sent: LoadOverride, words: str) -> None:
    put(tmp_path, onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        before = manager.find("m", "")
        with pytest.raises(InvalidArgument) as refusal:
            await manager.load("m", sent)
        assert words in refusal.value.message
        assert str(tmp_path) not in refusal.value.message
        assert manager.find("m", "") is before
        assert manager.index() == [IndexEntry("m", "1", "READY")]
        assert not manager.failures()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            override(max_batch_size=8, input=[{"name": "z", "data_type": "TYPE_FP32", "dims": [4]}]),
            "inference input 'z'",
        ),
        (LoadOverride("{}", {"1/model.onnx": b"this is no model"}), "ONNX Runtime cannot load model 'm'"),
        (LoadOverride("{}", {"1/model.txt": b""}), "has no file 'model.onnx'; there is 'model.txt' instead"),
        (override(onnx_models.adder(7), default_model_filename="../x.onnx"), "default_model_filename"),
    ],
)
async def test_a_load_that_fails_leaves_the_old_version_serving(tmp_path: Path, sent: LoadOverride, words: str) -> None:
    put(tmp_path, onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        with pytest.raises(InvalidArgument) as refusal:
            await manager.load("m", sent)
        assert words in refusal.value.message
        assert str(tmp_path) not in refusal.value.message
        assert await ask(manager) == 1
        assert manager.all_ready()
        await manager.load("m")
        assert not manager.failures()


async def test_a_new_name_that_fails_says_so_in_the_index(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        with pytest.raises(InvalidArgument, match="load failed for model 'new': version 1 is at UNAVAILABLE state"):
            await manager.load("new", LoadOverride("{}", {"1/model.onnx": b"this is no model"}))
        ((name, version, state),) = ((entry.name, entry.version, entry.state) for entry in manager.index())
        assert (name, version, state) == ("new", "1", "UNAVAILABLE")
        await manager.load("new", override(onnx_models.adder(1)))
        assert await ask(manager, "new") == 1


async def test_a_configuration_alone_needs_a_model_in_the_repository(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        with pytest.raises(InvalidArgument, match="no such model in it"):
            await manager.load("m", override(max_batch_size=2))
        assert manager.index() == []


async def test_a_configuration_may_stand_in_for_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1), config="nonsense")
    async with manager_of(tmp_path) as manager:
        assert not manager.all_ready()
        await manager.load("m", override(max_batch_size=2))
        assert batch_size(manager) == 2
        assert manager.all_ready()
        with pytest.raises(InvalidArgument, match="nonsense"):
            await manager.load("m")
        assert batch_size(manager) == 2


async def test_what_changes_on_disk_does_not_concern_a_model_that_a_client_sent(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load("m", override(onnx_models.adder(7)))
        put(tmp_path, onnx_models.adder(2), 2)
        await manager.poll()
        assert (manager.ready_numbers("m"), await ask(manager)) == ([1], 7)
        (tmp_path / "repository" / "m").rename(tmp_path / "away")
        await manager.poll()
        assert await ask(manager) == 7
        (tmp_path / "away").rename(tmp_path / "repository" / "m")
        await manager.load("m")
        assert (manager.ready_numbers("m"), await ask(manager)) == ([2], 2)
        put(tmp_path, onnx_models.adder(3), 3)
        await manager.poll()
        assert await ask(manager) == 3


async def test_loads_of_one_model_at_the_same_time_follow_one_another(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(0))
    async with manager_of(tmp_path) as manager:
        loads = [manager.load("m", override(onnx_models.adder(number))) for number in range(1, 6)]
        await asyncio.gather(*loads)
        assert await ask(manager) in range(1, 6)
        assert manager.ready_numbers("m") == [1]


async def test_who_gives_up_a_load_takes_nothing_back(tmp_path: Path) -> None:
    async with manager_of(tmp_path) as manager:
        for sent in (LoadOverride("{", {"1/model.onnx": b""}), override(onnx_models.adder(1))):
            task = asyncio.create_task(manager.load("new", sent))
            while not task.done() and not received(tmp_path):  # noqa: ASYNC110 - a thread makes them
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await manager.load("new", override(onnx_models.adder(2)))
        while received(tmp_path):  # noqa: ASYNC110 - it goes on by itself
            await asyncio.sleep(0)


LABELS = [{"name": "y", "data_type": "TYPE_FP32", "dims": [4], "label_filename": "labels.txt"}]
WARM_UP = [
    {
        "name": "s",
        "batch_size": 1,
        "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [4], "input_data_file": "raw"}},
    }
]
STATE_TENSOR = {"data_type": "TYPE_FP32", "dims": [4]}
STATES = {
    "state": [
        {
            "input_name": "x",
            "output_name": "y",
            **STATE_TENSOR,
            "initial_state": [{"name": "first", "data_file": "raw", **STATE_TENSOR}],
        }
    ]
}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"output": LABELS}, "label_filename of output 'y' 'labels.txt' names a file of the server"),
        ({"model_warmup": WARM_UP}, "model_warmup.inputs.input_data_file 'raw' names a file of the server"),
        ({"sequence_batching": STATES}, "state.initial_state.data_file 'raw' names a file of the server"),
    ],
)
@pytest.mark.parametrize("loose", [True, False])
async def test_a_configuration_alone_reads_no_file_that_the_models_own_does_not_name(
    tmp_path: Path, loose: bool, config: dict[str, Any], words: str
) -> None:
    repository = tmp_path / "repository"
    put(tmp_path, onnx_models.adder(1))
    directory = repository / "m"
    if loose:
        (directory / "1" / "model.onnx").rename(repository / "m.onnx")
        (directory / "1").rmdir()
        directory.rmdir()
        directory = repository
    (directory / "labels.txt").write_text("of no concern to clients")
    (directory / "warmup").mkdir()
    (directory / "warmup" / "raw").write_bytes(bytes(16))
    async with manager_of(tmp_path) as manager:
        with pytest.raises(InvalidArgument) as refusal:
            await manager.load("m", override(**config))
        assert words in refusal.value.message
        assert await ask(manager) == 1


async def test_a_configuration_alone_may_repeat_the_files_that_the_models_own_names(tmp_path: Path) -> None:
    own = """output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }"""
    put(tmp_path, onnx_models.adder(1), config=own)
    (tmp_path / "repository" / "m" / "labels.txt").write_text("a\nb")
    async with manager_of(tmp_path) as manager:
        await manager.load("m", override(max_batch_size=3, output=LABELS))
        assert (batch_size(manager), manager.find("m", "").loaded.labels) == (3, {"y": ("a", "b")})


async def test_what_was_uploaded_and_unloaded_is_forgotten_and_what_is_in_the_repository_is_not(tmp_path: Path) -> None:
    put(tmp_path, onnx_models.adder(1))
    async with manager_of(tmp_path) as manager:
        await manager.load("new", override(onnx_models.adder(2)))
        for name in ("new", "m"):
            await manager.unload(name)
        while any(entry.state == "UNLOADING" for entry in manager.index()):  # noqa: ASYNC110 - told there only
            await asyncio.sleep(0)
        await manager.look()
        assert manager.index() == [IndexEntry("m", "1", "UNAVAILABLE", "unloaded")]
        assert (manager.knows("m"), manager.knows("new")) == (True, False)
        await manager.load("new", override(onnx_models.adder(3)))
        assert await ask(manager, "new") == 3


class Files(dict[str, bytes]):
    """A client's files, of which a test can see whether anyone still has them."""


async def test_a_load_keeps_no_files_in_memory_once_they_are_written(tmp_path: Path) -> None:
    measuring = threading.Lock()
    (tmp_path / "repository").mkdir()
    (tmp_path / "sent").mkdir()
    manager = ModelManager(
        [tmp_path / "repository"],
        replace(OPTIONS, calibrating=measuring),
        QueueLimits(100),
        2,
        override_directories=OverrideDirectories(tmp_path / "sent"),
    )
    files = Files({"1/model.onnx": onnx_models.adder(3).SerializeToString()})
    seen = weakref.ref(files)
    with measuring:
        task = asyncio.create_task(manager.load("new", LoadOverride("{}", files)))
        del files
        while "LOADING" not in [entry.state for entry in manager.index()]:  # noqa: ASYNC110 - told there only
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
        assert seen() is None
    while not manager.ready_numbers("new"):  # noqa: ASYNC110 - it goes on by itself
        await asyncio.sleep(0)
    assert await ask(manager, "new") == 3
    await manager.stop()


async def test_loads_of_one_model_write_their_files_one_after_the_other(tmp_path: Path) -> None:
    most = 0
    async with manager_of(tmp_path) as manager:
        loads = [asyncio.create_task(manager.load("new", override(onnx_models.adder(n)))) for n in range(5)]
        while not all(load.done() for load in loads):
            most = max(most, len(received(tmp_path)))
            await asyncio.sleep(0)
        await asyncio.gather(*loads)
    assert most == 1
