"""Sessions whose runs are captured: buffers, bindings and numbers, on the CPU's provider, which captures nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from bound_memories import Elsewhere, HostCuda, same_bits
from host_memory_gpu import HostMemoryGpu
from onnx import ModelProto, TensorProto, helper

from ortolan.errors import InvalidArgument
from ortolan.execution.captured_session import MOST_GRAPHS, CapturedSession
from ortolan.execution.cuda_graphs import CUDA, TENSORRT
from ortolan.execution.device_memory import CudaCalls, DeviceMemory, HostMemory
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_binding import Binding
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import InstanceKind

FLOAT = TensorProto.FLOAT
CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def network() -> ModelProto:
    weights = np.random.default_rng(7).normal(size=(16, 8)).astype(np.float32)
    return onnx_models.model(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])],
        [("x", FLOAT, ["batch", 16])],
        [("y", FLOAT, ["batch", 8]), ("h", FLOAT, ["batch", 8])],
        {"w": weights},
    )


def session_of(proto: ModelProto, provider: str = CUDA, memory: DeviceMemory | None = None) -> Session:
    binding = Binding(memory or HostMemory(), provider)
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path(), binding)


def plain_of(proto: ModelProto) -> Session:
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path())


@pytest.fixture(autouse=True)
def nothing_given_up(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A run that fails is done again plainly: so that equal answers do not hide that."""
    yield
    assert "any more" not in caplog.text


def graphs_of(session: Session) -> int:
    bound = session._bound
    assert isinstance(bound, CapturedSession)
    return bound.graphs


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


# The runtime makes the buffers of graphs itself.
LENIENT = HostMemoryGpu(only_its_own=False)


@pytest.mark.parametrize("memory", [HostMemory(), HostCuda(CudaCalls(LENIENT, 0))], ids=["host", "cuda"])
def test_every_number_of_rows_has_its_graph_and_answers_stay(memory: DeviceMemory) -> None:
    captured, plain = session_of(network(), memory=memory), plain_of(network())
    kept = []
    for seed, count in enumerate((1, 4, 1, 8, 4, 1, 0)):
        x = rows(count, seed)
        kept += [(captured.run({"x": x}, names), plain.run({"x": x}, names)) for names in (["y"], ["h", "y"])]
    assert all(same_bits(found, expected) for found, expected in kept)
    assert graphs_of(captured) == 4


def test_clients_do_not_choose_how_many_graphs_there_are() -> None:
    captured, plain = session_of(network()), plain_of(network())
    for count in range(1, MOST_GRAPHS + 10):
        x = rows(count, count)
        assert same_bits(captured.run({"x": x}, ["y"]), plain.run({"x": x}, ["y"]))
    assert graphs_of(captured) == MOST_GRAPHS


def test_runs_that_can_be_ended_are_captured_too() -> None:
    captured = session_of(network())
    (found,) = captured.run({"x": rows(2)}, ["y"], captured.new_run())
    assert same_bits([found], plain_of(network()).run({"x": rows(2)}, ["y"]))
    assert graphs_of(captured) == 1


def test_threads_and_what_shrinks_the_arena_take_turns() -> None:
    captured, plain = session_of(network()), plain_of(network())
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for number in range(100):
            x = rows(number % 5 + 1, seed)
            if not same_bits(captured.run({"x": x}, ["y"]), plain.run({"x": x}, ["y"])):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            captured.shrink_arena()
            thread.join(0.01)
    assert wrong == []


def test_what_the_runtime_refuses_it_refuses_in_its_words() -> None:
    captured, plain = session_of(network()), plain_of(network())
    wrong = {"x": np.ones((2, 15), np.float32)}
    with pytest.raises(InvalidArgument) as expected:
        plain.run(wrong, ["y"])
    with pytest.raises(InvalidArgument) as found:
        captured.run(wrong, ["y"])
    assert found.value.message == expected.value.message
    assert same_bits(captured.run({"x": rows(2)}, ["y"]), plain.run({"x": rows(2)}, ["y"]))


@pytest.mark.parametrize(
    ("proto", "provider", "reason"),
    [
        (onnx_models.identity(FLOAT, ("b", "s")), CUDA, "input 'x' has open sizes beside the first"),
        (onnx_models.identity(TensorProto.STRING), CUDA, "input 'x' is no tensor of numbers"),
        (onnx_models.zip_map(["a", "b"]), CUDA, "output '.*' is no tensor of numbers"),
        (
            onnx_models.model(
                [helper.make_node("NonZero", ["x"], ["y"])], [("x", FLOAT, [4])], [("y", TensorProto.INT64, [1, "n"])]
            ),
            CUDA,
            "the size of output 'y' is not told by those of the inputs",
        ),
        (onnx_models.doubler(), TENSORRT, "input 'x' has an open size, and TensorRT captures one shape"),
    ],
)
def test_where_shapes_are_not_fixed_graphs_are_refused_by_name(proto: ModelProto, provider: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"model 'm' cannot have CUDA graphs: {reason}.*optimization.cuda.graphs"):
        session_of(proto, provider)


def test_tensors_that_the_graph_uses_on_the_cpu_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="'x' is used on the CPU"):
        session_of(network(), memory=Elsewhere())


def test_without_a_memory_to_bind_to_graphs_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"NVIDIA's bindings.*Install ortolan\[gpu\]"):
        Session(network().SerializeToString(), "m", SessionSettings(), CPU, Path(), Binding(None, CUDA))


def test_tensorrt_captures_the_one_shape_that_is_fixed() -> None:
    proto = onnx_models.doubler((2, 4))
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(session_of(proto, TENSORRT).run({"x": x}, ["y"])[0], 2 * x)
