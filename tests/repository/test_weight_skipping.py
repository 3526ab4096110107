"""What of a model's file is looked into, whatever the chunks in which it goes by."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ortolan.repository.weight_skipping import WeightSkipper

X, Y = ("x", TensorProto.FLOAT, ("batch", 4)), ("y", TensorProto.FLOAT, ("batch", 4))
LARGE = numpy_helper.from_array(np.full(1 << 13, 0x20202020, np.int32).view(np.float32), "w")
NODE = helper.make_node("Identity", ["x"], ["y"], name="the node")


def looked_into(content: bytes, chunk: int) -> bytes:
    skipper, seen = WeightSkipper(), b""
    for start in range(0, len(content), chunk):
        part = content[start : start + chunk]
        for first, last in skipper.spans(part):
            seen += part[first:last]
    return seen


def in_initialiser() -> onnx.ModelProto:
    proto = onnx_models.model([NODE], [X], [Y])
    proto.graph.initializer.append(LARGE)
    return proto


def in_constant() -> onnx.ModelProto:
    return onnx_models.model([helper.make_node("Constant", [], ["w"], value=LARGE), NODE], [X], [Y])


def in_list() -> onnx.ModelProto:
    numbers = np.frombuffer(LARGE.raw_data, np.float32)
    return onnx_models.model([helper.make_node("Constant", [], ["w"], value_floats=numbers), NODE], [X], [Y])


def in_branch() -> onnx.ModelProto:
    node = helper.make_node("If", ["yes"], ["z"], then_branch=in_initialiser().graph, else_branch=in_constant().graph)
    return onnx_models.model([node, NODE], [X], [Y], {"yes": np.array(True)})


def in_function() -> onnx.ModelProto:
    proto, opsets = onnx_models.model([NODE], [X], [Y]), [helper.make_opsetid("", 17)]
    nodes = [helper.make_node("Constant", [], ["y"], value=LARGE)]
    proto.functions.append(helper.make_function("test", "F", ["x"], ["y"], nodes, opsets))
    return proto


@pytest.mark.parametrize("chunk", [1, 7, 4096, 1 << 17, 1 << 20])
@pytest.mark.parametrize("make", [in_initialiser, in_constant, in_list, in_branch, in_function])
def test_all_is_looked_into_but_large_tensors(make: Callable[[], onnx.ModelProto], chunk: int) -> None:
    content = make().SerializeToString()
    seen = looked_into(content, chunk)
    assert b"the node" in seen
    assert seen == content.replace(LARGE.raw_data, b"")


@pytest.mark.parametrize("proto", [onnx_models.doubler(), onnx_models.slow(3)])
def test_a_small_model_is_looked_into_as_a_whole(proto: onnx.ModelProto) -> None:
    assert looked_into(proto.SerializeToString(), 64) == proto.SerializeToString()


@given(st.binary(max_size=200), st.integers(1, 50))
def test_what_is_no_model_is_looked_into_as_a_whole(content: bytes, chunk: int) -> None:
    assert looked_into(content, chunk) == content


@given(st.integers(0, 50), st.integers(1000, 100_000))
def test_a_model_that_is_cut_off_is_looked_into_up_to_its_end(cut: int, chunk: int) -> None:
    content = in_initialiser().SerializeToString()
    content = content[: len(content) - cut]
    seen = looked_into(content, chunk)
    assert seen == content.replace(LARGE.raw_data, b"")


def test_a_tensor_that_is_longer_than_its_graph_ends_the_skipping() -> None:
    content = in_initialiser().SerializeToString()
    # The graph is the field 7; the length of what is in it takes three bytes.
    at = content.index(b"\x3a") + 1
    broken = content[:at] + bytes([content[at] | 0x80, content[at + 1], content[at + 2] - 1]) + content[at + 3 :]
    assert looked_into(broken, 1 << 20) == broken


def test_a_file_of_nothing_but_small_fields_is_not_walked_to_its_end() -> None:
    content = b"\x50\x00" * 1_000 + in_initialiser().SerializeToString()
    assert WeightSkipper().spans(content) != [(0, len(content))]
    assert WeightSkipper(most_fields=999).spans(content) == [(0, len(content))]
