"""Weights that lie where the processor can load them from, whatever their sizes are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ortolan.execution.compiled_entry import MODEL, WEIGHTS, CompiledModel
from ortolan.execution.compiled_layout import ALIGNMENT, Layout, NotMovable, align_weights, packed_parts
from ortolan.execution.compiled_session import open_compiled, writing
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import InstanceKind

PLACE = Placement("test", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
PAGE = 4096


@given(st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=30))
def test_parts_are_aligned_apart_and_end_before_their_page_does(lengths: list[int]) -> None:
    layout, offset, ends = Layout(), 0, [0]
    for length in lengths:
        start = layout.place(offset, length)
        assert layout.place(offset, length) == start
        assert start % ALIGNMENT == 0
        assert start >= ends[-1]
        assert 0 < (start + length) % PAGE <= PAGE - ALIGNMENT
        ends.append(start + length)
        offset += length + 1
    assert layout.end == ends[-1]


def test_what_is_packed_may_have_several_parts() -> None:
    assert packed_parts("Gemm+17|64;128;0|256;12;0") == ("Gemm+17", [(64, 128, "0"), (256, 12, "0")])


def written(proto: onnx.ModelProto, folder: Path) -> tuple[Session, Session]:
    """A session of the model, and one of what was written of it and aligned."""
    model = onnx_models.save(proto, folder / "original.onnx")
    Session(model, "model", writing(SessionSettings(), folder / MODEL), PLACE, folder)
    align_weights(folder / MODEL, folder / WEIGHTS)
    compiled = open_compiled(CompiledModel(folder / MODEL, ()), "model", SessionSettings(), PLACE)
    return Session(model, "model", SessionSettings(), PLACE, folder), compiled


# The first two crashed ONNX Runtime 1.31.1 from the second row on before they were aligned.
@pytest.mark.parametrize("width", [361, 362, 364, 368])
def test_a_model_of_any_width_runs_any_number_of_rows(width: int, tmp_path: Path) -> None:
    original, compiled = written(onnx_models.perceptron(width), tmp_path)
    assert offsets(tmp_path / MODEL)
    assert all(offset % ALIGNMENT == 0 for offset in offsets(tmp_path / MODEL))
    for rows in (1, 2, 3, 5, 16, 33):
        given_rows = {"x": np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)}
        assert compiled.run(given_rows, ["y"])[0].tobytes() == original.run(given_rows, ["y"])[0].tobytes()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.2, shape).astype(np.float32)


def over_rows(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], row: tuple[int, ...]) -> onnx.ModelProto:
    tensor = (TensorProto.FLOAT, ["batch", *row])
    unknown = (TensorProto.FLOAT, [None] * (len(row) + 1))
    return onnx_models.model(nodes, [("x", *tensor)], [("y", *unknown)], constants)


def recurrent() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "second"], ["steps"]),
        helper.make_node("GRU", ["steps", "w", "r"], ["all"], hidden_size=33),
        helper.make_node("Reshape", ["all", "rows"], ["y"]),
    ]
    constants = {"second": np.array([0]), "w": normal(1, 99, 33), "r": normal(1, 99, 33), "rows": np.array([-1, 33])}
    return over_rows(nodes, constants, (33,))


def quantised() -> onnx.ModelProto:
    weights = np.random.default_rng(0).integers(-127, 127, (61, 61)).astype(np.int8)
    numbers = {"s": np.array(0.03, np.float32), "z": np.array(128, np.uint8), "zw": np.array(0, np.int8)}
    scales = ["s", "z", "w", "s", "zw", "s", "z"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", *scales], ["p"]),
        helper.make_node("QLinearMatMul", ["p", *scales], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    return over_rows(nodes, {**numbers, "w": weights}, (61,))


def deconvolution() -> onnx.ModelProto:
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"])]
    return over_rows(nodes, {"w": normal(33, 7, 3, 3), "b": normal(7)}, (33, 5, 5))


def convolutions() -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["x", "v", "b"], ["a"]), helper.make_node("Conv", ["a", "w"], ["y"])]
    return over_rows(nodes, {"v": normal(37, 33, 3, 3), "b": normal(37), "w": normal(19, 37, 1, 1)}, (33, 5, 5))


@pytest.mark.parametrize("build", [recurrent, quantised, deconvolution, convolutions])
def test_kernels_of_all_kinds_take_weights_where_they_are(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    proto = build()
    row = [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    original, compiled = written(proto, tmp_path)
    for rows in (1, 2, 5, 16, 33):
        given_rows = {"x": normal(rows, *row)}
        assert compiled.run(given_rows, ["y"])[0].tobytes() == original.run(given_rows, ["y"])[0].tobytes()


def test_weights_of_inner_graphs_are_moved_too(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3])],
        [external("w", 3, 8)],
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    proto = onnx_models.model([node], [("x", TensorProto.BOOL, [])], [("y", TensorProto.FLOAT, [3])])
    onnx_models.save(proto, tmp_path / MODEL)
    (tmp_path / WEIGHTS).write_bytes(b"12345678" + np.arange(3, dtype=np.float32).tobytes())
    align_weights(tmp_path / MODEL, tmp_path / WEIGHTS)
    compiled = open_compiled(CompiledModel(tmp_path / MODEL, ()), "model", SessionSettings(), PLACE)
    assert compiled.run({"x": np.array(True)}, ["y"])[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("key", "value"),
    [("location", "elsewhere.bin"), ("offset", "eight"), ("prepacked_0", "Gemm|8"), ("prepacked_0", "Gemm|8;9")],
)
def test_what_is_not_understood_is_not_moved(key: str, value: str, tmp_path: Path) -> None:
    proto = onnx_models.doubler()
    tensor = external("w", 3, 0)
    kept = [entry for entry in tensor.external_data if entry.key != key]
    del tensor.external_data[:]
    tensor.external_data.extend(kept)
    tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    before = onnx_models.save(proto, tmp_path / MODEL).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(bytes(12))
    with pytest.raises(NotMovable):
        align_weights(tmp_path / MODEL, tmp_path / WEIGHTS)
    assert (tmp_path / MODEL).read_bytes() == before


def external(name: str, count: int, offset: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", 4 * count)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def offsets(model: Path) -> list[int]:
    """All places in the file of weights that the model names."""
    proto = onnx.load(str(model), load_external_data=False)
    entries = [entry for tensor in proto.graph.initializer for entry in tensor.external_data]
    plain = [int(entry.value) for entry in entries if entry.key == "offset"]
    values = [entry.value for entry in entries if entry.key.startswith("prepacked")]
    packed = [start for value in values for start, *_ in packed_parts(value)[1]]
    assert packed
    return plain + packed
