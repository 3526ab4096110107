"""A model's file walked field by field: shapes and classes found, weights skipped, nothing else than NotWalkable."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnx_outputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_outputs import map_type, optional_type, sequence_type, tensor_type

from ortolan.execution.model_declarations import NotWalkable, Shape, declared_shapes, map_classes

FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (tensor_type(FLOAT, []), ()),
        (tensor_type(FLOAT, None), None),
        (tensor_type(FLOAT, [1, "batch", None, 0, 300]), (1, -1, -1, 0, 300)),
        (sequence_type(tensor_type(FLOAT, [2, "n"])), (2, -1)),
        (sequence_type(tensor_type(FLOAT, None)), None),
        (optional_type(tensor_type(FLOAT, [])), ()),
        (optional_type(sequence_type(tensor_type(FLOAT, [7]))), (7,)),
        (sequence_type(map_type(TensorProto.STRING, tensor_type(FLOAT, []))), ()),
        (onnx.TypeProto(), None),
    ],
)
def test_the_innermost_shape_is_found(kind: onnx.TypeProto, shape: Shape | None) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model = onnx_outputs.with_input([node], kind, tensor_type(FLOAT, ["é"]))
    assert declared_shapes(model.SerializeToString()) == {"x": shape, "y": (-1,)}


def test_weights_are_skipped(tmp_path: Path) -> None:
    weights = {"w": np.zeros(1_000_000, np.float32)}
    node = helper.make_node("Add", ["x", "w"], ["y"])
    proto = onnx_models.model([node], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], weights)
    file = onnx_models.save(proto, tmp_path / "model.onnx")
    assert declared_shapes(file) == {"x": (-1,), "y": (-1,)}
    assert map_classes(file) == {}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["b", "a"], ("a", "b")), ([2, -10, 1], ("-10", "1", "2")), ([1 << 62], (str(1 << 62),))],
)
def test_the_classes_of_a_map_come_in_ascending_order(labels: list[int] | list[str], classes: tuple[str, ...]) -> None:
    assert map_classes(onnx_models.zip_map(labels).SerializeToString()) == {"y": classes}


def test_packed_numbers_are_read_as_well() -> None:
    # Other writers pack them: field 8 of the attribute as one run of bytes.
    proto = onnx_models.zip_map([3, -1])
    name = b"\x0a\x12classlabels_int64s"
    packed = name + b"\x42\x0b\x03" + b"\xff" * 9 + b"\x01"
    (attribute,) = proto.graph.node[0].attribute
    plain = attribute.SerializeToString()
    node = proto.graph.node[0].SerializeToString()
    packed_node = node.replace(bytes([0x2A, len(plain)]) + plain, bytes([0x2A, len(packed)]) + packed)
    assert packed_node != node
    graph = b"\x0a" + bytes([len(packed_node)]) + packed_node
    assert map_classes(b"\x3a" + bytes([len(graph)]) + graph) == {"y": ("-1", "3")}


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 20, b"\x3a", b"\x3a\x7f\x00", b"\x00\x01", b"\x0f", b"<!DOCTYPE html>", b"\x20\x00\x00\x00ORTM\x00\x00"],
)
def test_what_is_no_onnx_file_is_not_walkable(content: bytes) -> None:
    with pytest.raises(NotWalkable):
        declared_shapes(content)


WALKED = onnx_models.zip_map(["a", "b"]).SerializeToString()


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda at, byte: WALKED[:at] + bytes([byte]) + WALKED[at + 1 :],
            st.integers(0, len(WALKED) - 1),
            st.integers(0, 255),
        ),
        st.integers(0, len(WALKED)).map(lambda end: WALKED[:end]),
    )
)
def test_no_bytes_whatever_do_anything_else(content: bytes) -> None:
    for walk in (declared_shapes, map_classes):
        with contextlib.suppress(NotWalkable):
            walk(content)
