"""Runs whose tensors are bound, against plain runs of the same session: bit for bit.

On the CPU's provider, by the code that binds to a GPU: once with plain host memory in the place of the GPU's, once with
NVIDIA's functions over host memory, whose copies are done when somebody waits for them and not before.
"""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from bound_memories import Elsewhere, HostCuda, same_bits
from host_memory_gpu import HostMemoryGpu
from onnx import ModelProto, TensorProto, helper

from ortolan.errors import Cancelled, Internal, InvalidArgument
from ortolan.execution.device_memory import CudaCalls, DeviceMemory, HostMemory
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_binding import Binding
from ortolan.execution.session_settings import SessionSettings
from ortolan.inference.datatypes import BF16, BOOL, BYTES, DATATYPES, FP16, Datatype
from ortolan.repository.model_config import InstanceKind

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(5)


MEMORIES: list[Callable[[], DeviceMemory]] = [
    HostMemory,
    Elsewhere,
    lambda: HostCuda(CudaCalls(HostMemoryGpu(), 0)),
    lambda: HostCuda(CudaCalls(HostMemoryGpu(), 0), host_limit_bytes=0),  # without page-locked memory
]
each_memory = pytest.mark.parametrize("memory", MEMORIES, ids=["host", "elsewhere", "cuda", "unpinned"])


def session_of(proto: ModelProto, memory: DeviceMemory | None = None) -> Session:
    binding = None if memory is None else Binding(memory, "")
    return Session(proto.SerializeToString(), "m", SessionSettings(), CPU, Path(), binding)


@pytest.fixture(autouse=True)
def nothing_given_up(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A bound run that fails is done again plainly: so that equal answers do not hide that."""
    yield
    assert "not bound any more" not in caplog.text


def network() -> ModelProto:
    return onnx_models.model(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])],
        [("x", FLOAT, ["batch", 64])],
        [("y", FLOAT, ["batch", 1000]), ("h", FLOAT, ["batch", 1000])],
        {"w": np.random.default_rng(7).normal(size=(64, 1000)).astype(np.float32)},
    )


@each_memory
def test_bound_runs_give_the_bits_of_plain_ones(memory: Callable[[], DeviceMemory]) -> None:
    bound, plain = session_of(network(), memory()), session_of(network())
    kept: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    # Larger, smaller, none, and larger than what goes through page-locked memory.
    for rows in (3, 1, 300, 0, 3, 512):
        x = RANDOM.normal(size=(rows, 64)).astype(np.float32)
        kept += [(bound.run({"x": x}, names), plain.run({"x": x}, names)) for names in (["y"], ["h", "y"])]
    # Answers stay what they are while later runs go on.
    assert all(same_bits(found, expected) for found, expected in kept)


@each_memory
@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each is not BYTES], ids=lambda each: each.name)
def test_every_datatype_of_numbers_is_bound(memory: Callable[[], DeviceMemory], datatype: Datatype) -> None:
    proto = onnx_models.identity(datatype.onnx_element_type)
    bound, plain = session_of(proto, memory()), session_of(proto)
    for shape in ((3, 4), (0, 4), (5000, 4)):
        bits = RANDOM.integers(0, 256, (*shape, datatype.numpy.itemsize), np.uint8)
        x = bits[..., 0] > 127 if datatype is BOOL else bits.reshape(-1).view(datatype.numpy).reshape(shape)
        assert same_bits(bound.run({"x": x}, ["y"]), plain.run({"x": x}, ["y"]))
    assert bound._bound is not None
    assert bound._bound.binds({"x": x}, ["y"])


@each_memory
@pytest.mark.parametrize("view", [np.asfortranarray, lambda x: x[::2], lambda x: x[:, ::-1]])
def test_arrays_that_are_not_contiguous_are(memory: Callable[[], DeviceMemory], view: Callable[[Any], Any]) -> None:
    x = view(RANDOM.normal(size=(600, 64)).astype(np.float32))
    assert same_bits(session_of(network(), memory()).run({"x": x}, ["y"]), session_of(network()).run({"x": x}, ["y"]))


@each_memory
def test_outputs_of_sizes_that_only_the_run_tells_are_made_by_the_runtime(memory: Callable[[], DeviceMemory]) -> None:
    proto = onnx_models.model(
        [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)],
        [("x", FLOAT, ["rows"])],
        [("where", INT64, [1, "found"]), ("sum", FLOAT, [])],
    )
    bound, plain = session_of(proto, memory()), session_of(proto)
    kept = []
    for x in ([0, 1, 0, 2], [0, 0], [3], []):
        array = np.array(x, np.float32)
        kept.append((bound.run({"x": array}, ["sum", "where"]), plain.run({"x": array}, ["sum", "where"])))
    assert all(same_bits(found, expected) for found, expected in kept)
    assert [found[1].tolist() for found, _ in kept] == [[[1, 3]], [[]], [[0]], [[]]]


@each_memory
def test_scalars_are_bound(memory: Callable[[], DeviceMemory]) -> None:
    proto = onnx_models.identity(FLOAT, ())
    x = np.array(2.5, np.float32)
    (found,) = session_of(proto, memory()).run({"x": x}, ["y"])
    assert found.shape == ()
    assert found == x


@each_memory
def test_an_input_that_may_be_left_out_still_may(memory: Callable[[], DeviceMemory]) -> None:
    bound, plain = session_of(onnx_models.with_default(7.0), memory()), session_of(onnx_models.with_default(7.0))
    names = [tensor.name for tensor in plain.signature.outputs]
    first, second = plain.signature.inputs
    assert second.optional
    x = np.ones((2, 4), np.float32)
    for feeds in (
        {first.name: x},
        {first.name: x, second.name: np.full([max(s, 1) for s in second.shape or ()], 3, np.float32)},
    ):
        assert same_bits(bound.run(feeds, names), plain.run(feeds, names))  # fmt: skip


@each_memory
@pytest.mark.parametrize(
    ("proto", "feeds"),
    [
        (onnx_models.identity(TensorProto.STRING), {"x": np.array([[b"a", b"", b"\xc3\xa9", b"d"]], object)}),
        (onnx_models.zip_map(["a", "b"]), None),
        (onnx_models.sequence(), None),
    ],
    ids=["text", "maps", "sequence"],
)
def test_what_cannot_be_bound_is_run_plainly(
    memory: Callable[[], DeviceMemory], proto: ModelProto, feeds: dict[str, np.ndarray] | None
) -> None:
    bound, plain = session_of(proto, memory()), session_of(proto)
    feeds = feeds or {
        tensor.name: np.ones([max(size, 1) for size in tensor.shape or ()], tensor.datatype.numpy)
        for tensor in plain.signature.inputs
    }
    names = [tensor.name for tensor in plain.signature.outputs]
    for found, expected in zip(bound.run(feeds, names), plain.run(feeds, names), strict=True):
        assert np.array_equal(found, expected)


@each_memory
@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.ones((2, 5), np.float32)},
        {"x": np.ones((2,), np.float32)},
        {"x": np.ones((2, 4), np.int64)},
        {},
        {"x": np.ones((2, 4), np.float32), "z": np.ones(1, np.float32)},
    ],
    ids=["size", "rank", "datatype", "missing", "unknown"],
)
def test_what_the_runtime_refuses_is_refused_in_the_same_words(
    memory: Callable[[], DeviceMemory], feeds: dict[str, np.ndarray]
) -> None:
    bound, plain = session_of(onnx_models.doubler(), memory()), session_of(onnx_models.doubler())
    with pytest.raises(InvalidArgument) as expected:
        plain.run(feeds, ["y"])
    for _ in range(3):
        with pytest.raises(InvalidArgument) as found:
            bound.run(feeds, ["y"])
        assert found.value.message == expected.value.message
    good = {"x": np.ones((2, 4), np.float32)}
    assert same_bits(bound.run(good, ["y"]), plain.run(good, ["y"]))
    assert bound._bound is not None
    assert bound._bound.binds(good, ["y"]), "a wrong request has ended the binding for all"


def test_a_model_that_fails_inside_fails_in_the_same_words() -> None:
    bound, plain = session_of(onnx_models.gather(), HostMemory()), session_of(onnx_models.gather())
    feeds = {
        tensor.name: np.full([max(size, 1) for size in tensor.shape or ()], 99, tensor.datatype.numpy)
        for tensor in plain.signature.inputs
    }
    names = [tensor.name for tensor in plain.signature.outputs]
    with pytest.raises((InvalidArgument, Internal)) as expected:
        plain.run(feeds, names)
    with pytest.raises(type(expected.value)) as found:
        bound.run(feeds, names)
    assert found.value.message == expected.value.message


def liar() -> ModelProto:
    """Says that its output has the shape of its input, which it turns over."""
    return onnx_models.model(
        [helper.make_node("Transpose", ["x"], ["y"])], [("x", FLOAT, ["a", "b"])], [("y", FLOAT, ["a", "b"])]
    )


def test_a_model_whose_outputs_are_not_what_it_declares_answers_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bound = session_of(liar(), HostMemory())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            (found,) = bound.run({"x": x}, ["y"])
            assert np.array_equal(found, x.T)
    assert caplog.text.count("model 'm': the places of outputs are not bound any more") == 1
    caplog.clear()


def test_a_device_that_fails_leaves_the_session_serving(caplog: pytest.LogCaptureFixture) -> None:
    gpu = HostMemoryGpu()
    bound = session_of(onnx_models.doubler(), HostCuda(CudaCalls(gpu, 0)))
    gpu.room_bytes = 0
    x = np.ones((2, 4), np.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert np.array_equal(bound.run({"x": x}, ["y"])[0], 2 * x)
    assert "OUT_OF_MEMORY" in caplog.text
    assert caplog.text.count("are not bound any more") == 2
    caplog.clear()


@each_memory
def test_a_bound_run_can_be_ended(memory: Callable[[], DeviceMemory]) -> None:
    session = session_of(onnx_models.slow(1 << 40), memory())
    feeds = {
        tensor.name: np.ones([max(size, 1) for size in tensor.shape or ()], tensor.datatype.numpy)
        for tensor in session.signature.inputs
    }
    run = session.new_run()
    timer = threading.Timer(0.2, run.terminate)
    timer.start()
    with pytest.raises(Cancelled):
        session.run(feeds, [tensor.name for tensor in session.signature.outputs], run)
    timer.join(10)


@each_memory
def test_threads_share_a_bound_session(memory: Callable[[], DeviceMemory]) -> None:
    bound, plain = session_of(network(), memory()), session_of(network())
    wrong: list[int] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(50):
            x = random.normal(size=(random.integers(1, 400), 64)).astype(np.float32)
            if not same_bits(bound.run({"x": x}, ["y"]), plain.run({"x": x}, ["y"])):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            bound.shrink_arena()
            thread.join(0.01)
    assert wrong == []


def test_idle_memory_is_given_back_with_the_arena_and_all_of_it_with_the_session() -> None:
    gpu = HostMemoryGpu()
    session = session_of(network(), HostCuda(CudaCalls(gpu, 0)))
    x = RANDOM.normal(size=(300, 64)).astype(np.float32)
    (answer,) = session.run({"x": x}, ["y"])
    assert gpu.device
    session.shrink_arena()
    gc.collect()
    assert gpu.device == {}
    assert len(gpu.host) == 1, "of page-locked memory only the answer's is left"
    expected = answer.tobytes()
    session.run({"x": x + 1}, ["y"])
    assert answer.tobytes() == expected
    del session
    gc.collect()
    assert answer.tobytes() == expected
    del answer
    gc.collect()
    assert (gpu.device, gpu.host, gpu.streams) == ({}, {}, [])


def test_half_precision_weights_are_computed_with_as_in_plain_runs() -> None:
    for datatype in (FP16, BF16):
        proto = onnx_models.model(
            [helper.make_node("Cast", ["x"], ["f"], to=FLOAT), helper.make_node("Add", ["f", "f"], ["s"]),
             helper.make_node("Cast", ["s"], ["y"], to=datatype.onnx_element_type)],
            [("x", datatype.onnx_element_type, ["n", 4])],
            [("y", datatype.onnx_element_type, ["n", 4])],
        )  # fmt: skip
        x = np.arange(8, dtype=np.uint16).reshape(2, 4).view(datatype.numpy)
        assert same_bits(session_of(proto, HostMemory()).run({"x": x}, ["y"]), session_of(proto).run({"x": x}, ["y"]))


def test_runs_that_move_little_are_left_to_the_runtime() -> None:
    gpu = HostMemoryGpu()
    binding = Binding(HostCuda(CudaCalls(gpu, 0)), "", least_bytes=64 * 4 + 1000 * 4 + 1)
    bound = Session(network().SerializeToString(), "m", SessionSettings(), CPU, Path(), binding)
    for rows in (1, 2):
        bound.run({"x": np.ones((rows, 64), np.float32)}, ["y"])
        assert bool(gpu.device) is (rows == 2)


def test_on_the_cpu_runs_stay_plain() -> None:
    assert session_of(network())._bound is None
