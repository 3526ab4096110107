"""Which files a model names, wherever in it a tensor stands; and which of those names are refused."""

import contextlib
import io

import numpy as np
import onnx
import onnx_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ortolan.errors import InvalidArgument
from ortolan.repository.external_data import MARKS, NotWalkable, external_locations, path_inside

X, Y = ("x", TensorProto.FLOAT, ("batch", 4)), ("y", TensorProto.FLOAT, ("batch", 4))


def external(location: str, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def in_initialiser() -> onnx.ModelProto:
    proto = onnx_models.doubler()
    proto.graph.initializer.append(external("weights/w.bin"))
    return proto


def in_constant() -> onnx.ModelProto:
    return onnx_models.model([helper.make_node("Constant", [], ["y"], value=external("weights/w.bin"))], [X], [Y])


def in_branch() -> onnx.ModelProto:
    branch = in_constant().graph
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return onnx_models.model([node], [X], [Y], {"yes": np.array(True)})


def in_list_of_tensors() -> onnx.ModelProto:
    node = helper.make_node("Custom", ["x"], ["y"], domain="test")
    node.attribute.append(helper.make_attribute("values", [external("weights/w.bin")]))
    return onnx_models.model([node], [X], [Y])


def in_sparse_initialiser() -> onnx.ModelProto:
    proto = onnx_models.doubler()
    sparse = helper.make_sparse_tensor(external("weights/w.bin"), numpy_helper.from_array(np.array([0, 1, 2, 3])), [9])
    proto.graph.sparse_initializer.append(sparse)
    return proto


def in_function() -> onnx.ModelProto:
    proto = onnx_models.doubler()
    node = helper.make_node("Constant", [], ["y"], value=external("weights/w.bin"))
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("test", "F", ["x"], ["y"], [node], opsets))
    return proto


def compiled(**attributes: object) -> onnx.ModelProto:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", **attributes)
    return onnx_models.model([node], [X], [Y])


@pytest.mark.parametrize(
    ("proto", "locations"),
    [
        (onnx_models.doubler(), ()),
        (in_initialiser(), ("weights/w.bin",)),
        (in_constant(), ("weights/w.bin",)),
        (in_branch(), ("weights/w.bin",)),
        (in_list_of_tensors(), ("weights/w.bin",)),
        (in_sparse_initialiser(), ("weights/w.bin",)),
        (in_function(), ("weights/w.bin",)),
        (compiled(embed_mode=0, ep_cache_context="engine.bin"), ("engine.bin",)),
        (compiled(embed_mode=1, ep_cache_context="the engine itself"), ()),
        (compiled(embed_mode=0, main_context=0), ()),
    ],
)
def test_locations_are_found_wherever_a_tensor_stands(proto: onnx.ModelProto, locations: tuple[str, ...]) -> None:
    content = proto.SerializeToString()
    assert external_locations(content) == locations
    assert not locations or any(mark in content for mark in MARKS)


def test_a_tensor_that_has_its_elements_itself_needs_no_file() -> None:
    proto = onnx_models.doubler()
    stale = external("gone.bin")
    stale.data_location = TensorProto.DEFAULT
    proto.graph.initializer.append(stale)
    assert external_locations(proto.SerializeToString()) == ()


def test_of_a_value_that_is_written_twice_the_last_one_counts_as_it_does_for_the_runtime() -> None:
    tensor = external("first.bin")
    entry = tensor.external_data[0]
    twice = entry.SerializeToString() + onnx.StringStringEntryProto(value="second.bin").SerializeToString()
    del tensor.external_data[:]
    head = tensor.SerializeToString() + bytes([13 << 3 | 2, len(twice)]) + twice
    graph = bytes([5 << 3 | 2, len(head)]) + head
    assert external_locations(bytes([7 << 3 | 2, len(graph)]) + graph) == ("second.bin",)


def test_graphs_that_nest_deeply_are_walked() -> None:
    message = external("w.bin").SerializeToString()
    message = field(5, message)  # a graph with an initializer
    for _ in range(2000):
        message = field(1, field(5, field(6, message)))  # a graph of a node with an attribute that is a graph
    assert external_locations(field(7, message)) == ("w.bin",)


def field(number: int, content: bytes) -> bytes:
    size, written = len(content), io.BytesIO()
    written.write(bytes([number << 3 | 2]))
    while size > 0x7F:
        written.write(bytes([size & 0x7F | 0x80]))
        size >>= 7
    return written.getvalue() + bytes([size]) + content


@given(st.binary(max_size=64))
def test_no_bytes_whatever_raise_anything_else(content: bytes) -> None:
    for model in (content, field(7, content), field(7, field(5, content)), field(7, field(1, b"location" + content))):
        with contextlib.suppress(NotWalkable):
            external_locations(model)


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin", "./w.bin", "a b.bin", "…", "..w"])
def test_names_inside_the_directory_are_taken(location: str) -> None:
    assert not path_inside(location).is_absolute()


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "a/../../w.bin", "/etc/passwd", "a/..", "..", "", "a\\b", "C:\\w", "C:w", "a\nb", "a\0b", "."],
)
def test_names_that_may_lead_elsewhere_are_refused(location: str) -> None:
    with pytest.raises(InvalidArgument, match="not inside its directory; expected the relative name"):
        path_inside(location)
