"""Sessions on a real GPU; and what happens to who asks for one where there is none."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import take_inventory
from ortolan.execution.session import available_providers, preload_gpu_libraries
from ortolan.repository.directory import walk

CUDA = "CUDAExecutionProvider"
INVENTORY = take_inventory(available_providers(), os.environ.get("CUDA_VISIBLE_DEVICES"))
HAS_CUDA = CUDA in INVENTORY.providers and bool(INVENTORY.usable_gpus)

needs_cuda = pytest.mark.skipif(
    not HAS_CUDA,
    reason=f"no NVIDIA GPU: the GPUs here are {list(INVENTORY.gpus)}, and this ONNX Runtime has "
    f"{', '.join(INVENTORY.providers)}",
)
needs_no_cuda = pytest.mark.skipif(HAS_CUDA, reason="there is an NVIDIA GPU, and this is about machines without one")

if HAS_CUDA:
    preload_gpu_libraries()

KIND_GPU = "instance_group [{ kind: KIND_GPU count: 1 }]"
KIND_CPU = "instance_group [{ kind: KIND_CPU count: 1 }]"


def network() -> bytes:
    """Two layers with enough numbers in them that the CPU and the GPU round differently, and little."""
    random = np.random.default_rng(7)
    proto = onnx_models.model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["s"]),
            helper.make_node("Softmax", ["s"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 64])],
        [("y", TensorProto.FLOAT, ["batch", 10])],
        {
            "w1": random.normal(size=(64, 128), scale=0.1).astype(np.float32),
            "w2": random.normal(size=(128, 10), scale=0.1).astype(np.float32),
        },
    )
    return bytes(proto.SerializeToString())


def load(tmp_path: Path, config: str, device: str = "auto", allow_fallback: bool = False) -> LoadedModel:
    file = tmp_path / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(network())
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    entry = walk([tmp_path]).models["m"]
    parsed = read_config(entry)
    options = LoadingOptions(INVENTORY, DeviceShares(2), device=device, allow_fallback=allow_fallback)
    return load_version(entry, parsed, wanted_versions(entry, parsed)[1], options)


def answer(loaded: LoadedModel) -> npt.NDArray[np.float64]:
    x = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)
    return np.asarray(loaded.instances[0][1].run({"x": x}, ["y"])[0], np.float64)


@needs_cuda
def test_a_cuda_session_gives_the_cpus_answers(tmp_path: Path) -> None:
    on_gpu = load(tmp_path, KIND_GPU + 'parameters { key: "execution_provider" value: { string_value: "cuda" } }')
    on_cpu = load(tmp_path, KIND_CPU)
    assert on_gpu.instances[0][1].providers[0] == CUDA
    assert CUDA not in on_cpu.instances[0][1].providers
    np.testing.assert_allclose(answer(on_gpu), answer(on_cpu), rtol=1e-2, atol=1e-3)  # TF32 rounds more


@needs_cuda
def test_kind_gpu_places_an_instance_on_each_gpu(tmp_path: Path) -> None:
    loaded = load(tmp_path, KIND_GPU)
    assert loaded.devices == tuple(f"GPU {number}" for number in INVENTORY.usable_gpus)
    assert all(session.providers[0] == CUDA for _, session in loaded.instances)
    # A session holds its weights on one device, so that each GPU has one of its own.
    assert len({id(session) for _, session in loaded.instances}) == len(INVENTORY.usable_gpus)


@needs_cuda
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_model_that_says_nothing_goes_to_the_gpu(tmp_path: Path, device: str) -> None:
    loaded = load(tmp_path, "", device)
    assert loaded.devices[0] == "GPU 0"
    assert loaded.instances[0][1].providers[0] == CUDA


@needs_cuda
def test_cuda_options_reach_the_session(tmp_path: Path) -> None:
    accelerator = 'optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "cuda" '
    loaded = load(tmp_path, KIND_GPU + accelerator + 'parameters { key: "use_tf32" value: "0" } } ] } }')
    assert loaded.instances[0][1].providers[0] == CUDA
    np.testing.assert_allclose(answer(loaded), answer(load(tmp_path, KIND_CPU)), rtol=1e-4, atol=1e-5)


@needs_no_cuda
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_the_model_asks_for_and_is_not_there_fails_the_load(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"model 'm' asks for {CUDA}"):
        load(tmp_path, 'parameters { key: "execution_provider" value: { string_value: "cuda" } }')


@needs_no_cuda
def test_a_gpu_that_the_model_asks_for_and_is_not_there_fails_the_load(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"'m' asks for GPUs, but this server has no GPU"):
        load(tmp_path, KIND_GPU)


@needs_no_cuda
def test_cuda_that_the_operator_asks_for_and_is_not_there_fails_the_load(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="to run model 'm' on 'cuda', but no usable GPU was found"):
        load(tmp_path, "", device="cuda")
    assert load(tmp_path, KIND_CPU, device="cuda").devices == ("CPU",)
    assert set(load(tmp_path, "", device="cuda", allow_fallback=True).devices) == {"CPU"}
