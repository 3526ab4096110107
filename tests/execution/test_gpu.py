"""Sessions on a real GPU; and what happens to who asks for one where there is none."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_models
import pytest
from onnx import ModelProto, TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.bound_session import BoundSession
from ortolan.execution.captured_session import CapturedSession
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import Placement, Provider, take_inventory
from ortolan.execution.session import Session, available_providers, preload_gpu_libraries
from ortolan.repository.directory import walk
from ortolan.repository.model_config import InstanceKind

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
INVENTORY = take_inventory(available_providers(), os.environ.get("CUDA_VISIBLE_DEVICES"))
HAS_CUDA = CUDA in INVENTORY.providers and bool(INVENTORY.usable_gpus)

needs_cuda = pytest.mark.skipif(
    not HAS_CUDA,
    reason=f"no NVIDIA GPU: the GPUs here are {list(INVENTORY.gpus)}, and this ONNX Runtime has "
    f"{', '.join(INVENTORY.providers)}",
)
needs_tensorrt = pytest.mark.skipif(
    not HAS_CUDA or TENSORRT not in INVENTORY.providers,
    reason=f"no NVIDIA GPU with TensorRT: the GPUs here are {list(INVENTORY.gpus)}, and this ONNX Runtime has "
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


def load(
    tmp_path: Path,
    config: str,
    device: str = "auto",
    allow_fallback: bool = False,
    model: ModelProto | None = None,
    engines: Path | None = None,
) -> LoadedModel:
    file = tmp_path / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(network() if model is None else model.SerializeToString())
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    entry = walk([tmp_path]).models["m"]
    parsed = read_config(entry)
    options = LoadingOptions(INVENTORY, DeviceShares(2), device=device, allow_fallback=allow_fallback, engines=engines)
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


def graphs(text: str) -> str:
    return KIND_GPU + " optimization { " + text + " }"


def shared_with_cpu(loaded: LoadedModel, on_cpu: LoadedModel, rows: int, seed: int, rtol: float = 1e-2) -> None:
    """Both give the same answer to the same rows, but for how they round."""
    x = np.random.default_rng(seed).normal(size=(rows, 64)).astype(np.float32)
    found, expected = (np.asarray(each.instances[0][1].run({"x": x}, ["y"])[0]) for each in (loaded, on_cpu))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-3)


def bound_of(loaded: LoadedModel) -> BoundSession | CapturedSession:
    bound = loaded.instances[0][1]._bound
    assert bound is not None, "NVIDIA's bindings for Python are not installed, or find no GPU"
    return bound


@needs_cuda
def test_bound_runs_give_the_cpus_answers_and_those_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    on_gpu, on_cpu = load(tmp_path / "gpu", KIND_GPU), load(tmp_path / "cpu", KIND_CPU)
    bound_of(on_gpu)
    for seed, rows in enumerate((1, 4096, 0, 20_000, 3, 4096)):  # below and above what is bound
        shared_with_cpu(on_gpu, on_cpu, rows, seed)
    session = on_gpu.instances[0][1]
    first = session.run({"x": np.ones((4096, 64), np.float32)}, ["y"])[0]
    kept = first.copy()
    session.run({"x": np.full((4096, 64), -1, np.float32)}, ["y"])
    assert np.array_equal(first, kept)
    assert "any more" not in caplog.text, "a bound run failed and was done again plainly"


@needs_cuda
def test_instances_of_one_gpu_overlap(tmp_path: Path) -> None:
    """Two instances side by side take less time than the same runs one after the other."""
    loaded = load(tmp_path, KIND_GPU.replace("count: 1", "count: 2 gpus: [ 0 ]"))
    sessions = [session for _, session, _ in loaded.instances]
    assert len(set(map(id, sessions))) == 2
    x = np.ones((200_000, 64), np.float32)  # 51 MB: most of it is copying

    def ask(session: Session) -> None:
        for _ in range(20):
            session.run({"x": x}, ["y"])

    def alone() -> float:
        start = time.perf_counter()
        for session in sessions:
            ask(session)
        return time.perf_counter() - start

    def together() -> float:
        start = time.perf_counter()
        threads = [threading.Thread(target=ask, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return time.perf_counter() - start

    alone(), together()
    ratios = sorted(together() / alone() for _ in range(5))
    assert ratios[2] < 0.9, ratios


@needs_cuda
@pytest.mark.parametrize(
    "config",
    [
        graphs("cuda { graphs: true }"),
        KIND_GPU + 'parameters { key: "enable_cuda_graph" value: { string_value: "1" } }',
    ],
    ids=["Triton's", "ours"],
)
def test_graphs_follow_their_inputs(tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture) -> None:
    captured, on_cpu = load(tmp_path / "gpu", config), load(tmp_path / "cpu", KIND_CPU)
    bound = bound_of(captured)
    assert isinstance(bound, CapturedSession)
    # Each number of rows several times with other numbers: a graph that reads other memory would repeat itself.
    for seed, rows in enumerate((1, 8, 1, 8, 1, 3, 8)):
        shared_with_cpu(captured, on_cpu, rows, seed)
    found: list[BaseException] = []

    def in_another_thread() -> None:
        try:
            for seed, rows in enumerate((8, 1, 3, 8)):
                shared_with_cpu(captured, on_cpu, rows, 100 + seed)
        except BaseException as error:  # the thread would swallow it
            found.append(error)

    thread = threading.Thread(target=in_another_thread)
    thread.start()
    thread.join(60)
    assert found == []
    assert bound.graphs >= 3
    captured.instances[0][1].shrink_arena()
    shared_with_cpu(captured, on_cpu, 8, 7)
    assert "any more" not in caplog.text


@needs_cuda
def test_graphs_of_a_model_with_control_flow_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"graph capture.*leave out optimization\.cuda\.graphs"):
        load(tmp_path, graphs("cuda { graphs: true }"), model=onnx_models.slow(3))


@needs_cuda
def test_more_memory_than_gpu_mem_limit_is_refused_and_the_session_lives_on(tmp_path: Path) -> None:
    limit = 'parameters { key: "gpu_mem_limit" value: { string_value: "67108864" } }'  # 64 MiB
    small = 'parameters { key: "arena_extend_strategy" value: { string_value: "kSameAsRequested" } }'
    loaded = load(tmp_path, KIND_GPU + limit + small)
    with pytest.raises(OrtolanError, match=r"(?i)memory"):
        loaded.instances[0][1].run({"x": np.ones((1_000_000, 64), np.float32)}, ["y"])
    np.testing.assert_allclose(answer(loaded), answer(load(tmp_path, KIND_CPU)), rtol=1e-2, atol=1e-3)


@needs_cuda
def test_what_a_burst_left_on_the_gpu_is_given_back(tmp_path: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="NVIDIA's bindings are not installed")

    def free_bytes() -> int:
        runtime.cudaSetDevice(0)
        status, free, _ = runtime.cudaMemGetInfo()
        assert int(status) == 0
        return int(free)

    session = load(tmp_path, KIND_GPU).instances[0][1]
    session.run({"x": np.ones((8, 64), np.float32)}, ["y"])
    before = free_bytes()
    session.run({"x": np.ones((400_000, 64), np.float32)}, ["y"])
    left = before - free_bytes()
    assert left > 64 << 20
    session.shrink_arena()
    assert before - free_bytes() < left / 4
    session.run({"x": np.ones((8, 64), np.float32)}, ["y"])


@needs_tensorrt
def test_tensorrts_engines_are_kept_and_found_again(tmp_path: Path) -> None:
    config = graphs('execution_accelerators { gpu_execution_accelerator: [ { name: "tensorrt" } ] }')
    config += ' max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: 64 }'
    config += ' output { name: "y" data_type: TYPE_FP32 dims: 10 }'
    engines = tmp_path / "engines"

    def files() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in engines.rglob("*.engine")}

    start = time.perf_counter()
    first = load(tmp_path, config, engines=engines)
    building_s = time.perf_counter() - start
    kept = files()
    assert kept
    assert list(engines.rglob("*.timing"))
    start = time.perf_counter()
    second = load(tmp_path, config, engines=engines)
    assert time.perf_counter() - start < building_s
    assert files() == kept, "the engine was built again"
    on_cpu = load(tmp_path / "cpu", KIND_CPU)
    for loaded in (first, second):
        for rows in (1, 8):  # within the profile: no engine is built while requests wait
            shared_with_cpu(loaded, on_cpu, rows, rows)
    assert files() == kept


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


@needs_no_cuda
@pytest.mark.parametrize(
    "config", [KIND_CPU + " optimization { cuda { graphs: true } }", KIND_CPU], ids=["Triton's switch", "silent"]
)
def test_on_the_cpu_the_switch_of_graphs_has_no_effect_and_the_log_says_so(tmp_path: Path, config: str) -> None:
    loaded = load(tmp_path, config)
    told = [note for note in loaded.notes if note.startswith("optimization.cuda.graphs is ignored")]
    assert len(told) == ("graphs" in config)
    assert answer(loaded).shape == (32, 10)


def test_placements_of_gpus_can_be_told_apart() -> None:
    """Each instance on a GPU has a session of its own, which is found by its placement."""
    options = {"device_id": "0"}
    first, second = (Placement(f"g_{n}_gpu0", InstanceKind.GPU, 0, (Provider(CUDA, options),)) for n in range(2))
    assert len({first, second, first}) == 2
