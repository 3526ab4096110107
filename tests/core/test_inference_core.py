"""What frontends may ask of the core, and what they hear when it cannot be answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx_models
import pytest

import ortolan
from ortolan.core.control_rules import ControlMode
from ortolan.core.inference_core import InferenceCore, TensorMetadata
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.model_records import IndexEntry
from ortolan.errors import InvalidArgument, NotFound, Unavailable
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, Tensor

ALL = "version_policy { all {} }"
X = np.zeros((1, 4), np.float32)


@asynccontextmanager
async def core_of(
    root: Path, control_mode: ControlMode = "explicit", strict_readiness: bool = True, load: bool = True
) -> AsyncIterator[InferenceCore]:
    manager = ModelManager([root], LoadingOptions(DeviceInventory(cores=1), DeviceShares(1)), QueueLimits(100))
    if load:
        await manager.load_all()
    yield InferenceCore(manager, "ortolan", control_mode, strict_readiness)
    await manager.stop()


def two_versions(root: Path) -> None:
    for number in (1, 2):
        onnx_models.save_version(root, "m", onnx_models.adder(number), number, ALL)


def bad_model(root: Path, name: str = "bad") -> None:
    onnx_models.save_version(root, name, onnx_models.adder(1))
    (root / name / "1" / "model.onnx").write_bytes(b"this is no model")


async def infer(core: InferenceCore, name: str = "m", version: str = "") -> float:
    response = await core.infer(InferenceRequest(name, version, inputs=(Tensor("x", FP32, X.shape, X),)))
    return float(response.outputs[0].array[0, 0])


async def test_a_server_is_ready_once_it_has_started_and_until_it_drains(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with core_of(tmp_path) as core:
        assert not core.is_ready()
        core.set_started()
        assert core.is_ready()
        core.set_draining()
        assert (core.draining, core.is_ready()) == (True, False)
        assert await infer(core) == 2  # it still answers


@pytest.mark.parametrize("strict", [True, False])
async def test_a_model_that_failed_makes_a_strict_server_not_ready(tmp_path: Path, strict: bool) -> None:
    two_versions(tmp_path)
    bad_model(tmp_path)
    async with core_of(tmp_path, strict_readiness=strict) as core:
        core.set_started()
        assert core.is_ready() is not strict
        await core.unload("bad")
        assert core.is_ready()


async def test_a_server_says_who_it_is(tmp_path: Path) -> None:
    async with core_of(tmp_path) as core:
        assert core.metadata.name == "ortolan"
        assert core.metadata.version == ortolan.__version__
        assert core.metadata.extensions == (
            "classification",
            "sequence",
            "model_repository",
            "model_repository(unload_dependents)",
            "schedule_policy",
            "model_configuration",
            "system_shared_memory",
            "cuda_shared_memory",
            "binary_tensor_data",
            "parameters",
            "statistics",
            "trace",
            "logging",
        )


async def test_a_model_is_ready_or_not_or_unknown(tmp_path: Path) -> None:
    two_versions(tmp_path)
    bad_model(tmp_path)
    async with core_of(tmp_path) as core:
        assert core.model_ready("m", "")
        assert core.model_ready("m", "2")
        assert not core.model_ready("bad", "1")
        for name, version in (("nowhere", ""), ("m", "3")):
            with pytest.raises(NotFound):
                core.model_ready(name, version)


async def test_metadata_names_the_versions_and_the_tensors_as_clients_see_them(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with core_of(tmp_path) as core:
        found = await core.model_metadata("m", "")
        assert (found.name, found.versions, found.platform) == ("m", ("1", "2"), "onnxruntime_onnx")
        assert found.inputs == (TensorMetadata("x", "FP32", (-1, 4)),)
        assert found.outputs == (TensorMetadata("y", "FP32", (-1, 4)),)
        assert (await core.model_metadata("m", "1")).versions == ("1",)
        assert (await core.signature("m", "")).max_batch_size == 4
        assert (await core.model_config("m", "")).max_batch_size == 4
        assert (await core.model_config_json("m", ""))["name"] == "m"
        assert found.properties == {
            "batching": "automatic, by the measured cost curve",
            "batch_invariance": "bitwise",
        }
        with pytest.raises(NotFound):
            await core.model_metadata("nowhere", "")


async def test_statistics_are_of_one_version_of_a_model_or_of_all(tmp_path: Path) -> None:
    two_versions(tmp_path)
    onnx_models.save_version(tmp_path, "n", onnx_models.adder(3))
    async with core_of(tmp_path) as core:
        await infer(core, "m", "1")
        await infer(core, "m", "1")

        def counted(name: str, version: str) -> list[tuple[str, int, int]]:
            return [(each.name, each.number, each.statistics.success.count) for each in core.statistics(name, version)]

        assert counted("m", "1") == [("m", 1, 2)]
        assert counted("m", "") == [("m", 1, 2), ("m", 2, 0)]
        assert counted("", "") == [("m", 1, 2), ("m", 2, 0), ("n", 1, 0)]
        assert [(each.name, each.number) for each in core.serving()] == [("m", 1), ("m", 2), ("n", 1)]


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("nowhere", "", "requested model 'nowhere' is not available"),
        ("nowhere", "1", "requested model 'nowhere' is not available"),
        ("bad", "", "requested model 'bad' is not available"),
        ("m", "3", "requested model version is not available for model 'm'"),
        ("m", "one", "requested model version is not available for model 'm'"),
    ],
)
async def test_statistics_of_what_is_not_served_are_refused(tmp_path: Path, name: str, version: str, text: str) -> None:
    two_versions(tmp_path)
    bad_model(tmp_path)
    async with core_of(tmp_path) as core:
        with pytest.raises(InvalidArgument, match=text):
            core.statistics(name, version)


async def test_the_index_is_of_the_repository_as_it_is_now(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with core_of(tmp_path) as core:
        onnx_models.save_version(tmp_path, "new", onnx_models.adder(1))
        ready = [IndexEntry("m", "1", "READY"), IndexEntry("m", "2", "READY")]
        assert await core.index(only_ready=False) == [*ready, IndexEntry("new")]
        assert await core.index(only_ready=True) == ready


async def test_models_are_loaded_and_unloaded_on_request(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with core_of(tmp_path, load=False) as core:
        await core.load("m")
        assert await infer(core) == 2
        await core.unload("m")
        with pytest.raises(NotFound, match="has no available versions"):
            await infer(core)
        await core.unload("nowhere")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\t",
        "\n",
        "a/b",
        "/etc",
        "model/",
        "..",
        ".",
        " ..",
        ".. ",
        "../m",
        "a/../b",
        "a\\b",
        "..\\m",
        "a\0b",
        "x" * 256,
    ],
)
async def test_a_name_that_is_no_models_is_refused(tmp_path: Path, name: str) -> None:
    async with core_of(tmp_path) as core:
        with pytest.raises(InvalidArgument, match="the model's name must"):
            await core.load(name)
        with pytest.raises(InvalidArgument, match="the model's name must"):
            await core.unload(name)


@pytest.mark.parametrize("name", ["nowhere", "...", "..m", "m..1", "🦤", "x" * 255])
async def test_a_name_that_is_not_in_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    async with core_of(tmp_path) as core:
        with pytest.raises(InvalidArgument, match="failed to load"):
            await core.load(name)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("poll", "explicit model load / unload is not allowed if polling is enabled; start the server with "),
        ("none", "explicit model load / unload is not allowed where models are only loaded at the start; start the "),
    ],
)
async def test_without_explicit_control_nothing_is_loaded_on_request(
    tmp_path: Path, mode: ControlMode, said: str
) -> None:
    two_versions(tmp_path)
    async with core_of(tmp_path, mode) as core:
        for call in (core.load, core.unload):
            with pytest.raises(Unavailable) as refused:
                await call("m")
            assert refused.value.message.startswith(said)
            assert refused.value.message.endswith("--model-control-mode=explicit to allow it")
        assert await infer(core) == 2


async def test_of_a_repository_that_went_away_what_is_known_is_told_and_nothing_is_loaded(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    two_versions(root)
    async with core_of(root) as core:
        onnx_models.save_version(root, "waits", onnx_models.adder(1))
        before = await core.index(only_ready=False)
        root.rename(tmp_path / "away")
        assert await core.index(only_ready=False) == await core.index(only_ready=False) == before
        with pytest.raises(Unavailable, match="the model repository cannot be read") as failure:
            await core.load("m")
        assert str(tmp_path) not in failure.value.message
        assert await infer(core) == 2
