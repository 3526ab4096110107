"""Tiny ONNX models whose inputs and outputs are no plain tensors: sequences, maps, optionals, tensors of any rank."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_models
from onnx import NodeProto, TensorProto, TypeProto, helper

tensor_type = helper.make_tensor_type_proto
sequence_type = helper.make_sequence_type_proto
optional_type = helper.make_optional_type_proto
map_type = helper.make_map_type_proto

X = ("x", TensorProto.FLOAT, ["batch", 4])
WANTED = ("wanted", TensorProto.BOOL, [])


def with_output(
    nodes: Sequence[NodeProto],
    inputs: Sequence[tuple[str, int, onnx_models.Shape]],
    output: TypeProto,
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model with one output ``y`` of the type ``output``."""
    proto = onnx_models.model(nodes, inputs, [], constants)
    proto.graph.output.append(helper.make_value_info("y", output))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return proto


def with_input(nodes: Sequence[NodeProto], given: TypeProto, output: TypeProto) -> onnx.ModelProto:
    """A model with one input ``x`` of the type ``given`` and one output ``y`` of the type ``output``."""
    proto = with_output(nodes, [], output)
    proto.graph.input.append(helper.make_value_info("x", given))
    return proto


def rows(element_shape: Sequence[int | str] | None = (4,), element_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """y = the sequence of the rows of x."""
    node = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0, keepdims=0)
    element = tensor_type(element_type, element_shape)
    return with_output([node], [("x", element_type, ["batch", 4])], sequence_type(element))


def no_elements(element_shape: Sequence[int | str] | None) -> onnx.ModelProto:
    """y = a sequence without elements."""
    node = helper.make_node("SequenceEmpty", [], ["y"], dtype=TensorProto.FLOAT)
    return with_output([node], [X], sequence_type(tensor_type(TensorProto.FLOAT, element_shape)))


def perhaps(element: TypeProto, shape: onnx_models.Shape, nodes: Sequence[NodeProto] = ()) -> onnx.ModelProto:
    """y = the optional of x, or of what ``nodes`` make of it and call v, if it is wanted; else an absent one."""
    present = [helper.make_node("Optional", ["v" if nodes else "x"], ["present"])]
    absent = [helper.make_node("Optional", [], ["absent"], type=element)]
    branches = {
        f"{side}_branch": helper.make_graph(found, side, [], [helper.make_value_info(name, optional_type(element))])
        for side, name, found in (("then", "present", present), ("else", "absent", absent))
    }
    choice = helper.make_node("If", ["wanted"], ["y"], **branches)
    kind = TensorProto.FLOAT
    inner = element.sequence_type.elem_type if element.HasField("sequence_type") else element
    if inner.tensor_type.elem_type == TensorProto.STRING:
        kind = TensorProto.STRING
    return with_output([*nodes, choice], [("x", kind, shape), WANTED], optional_type(element))


def x_or_zeros() -> onnx.ModelProto:
    """y = the optional input x, or four zeros where it is left out."""
    given = tensor_type(TensorProto.FLOAT, ["n"])
    there = [helper.make_node("OptionalGetElement", ["x"], ["there"])]
    zeros = [helper.make_node("Constant", [], ["zeros"], value_floats=[0.0] * 4)]
    branches = {
        f"{side}_branch": helper.make_graph(found, side, [], [helper.make_value_info(name, given)])
        for side, name, found in (("then", "there", there), ("else", "zeros", zeros))
    }
    nodes = [
        helper.make_node("OptionalHasElement", ["x"], ["has"]),
        helper.make_node("If", ["has"], ["y"], **branches),
    ]
    return with_input(nodes, optional_type(given), given)


def vectorised_map() -> onnx.ModelProto:
    """y = the values of a map x in the order of its vocabulary."""
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    given = map_type(TensorProto.STRING, tensor_type(TensorProto.FLOAT, []))
    return with_input([node], given, tensor_type(TensorProto.FLOAT, [1, 2]))


def first_of_sequence() -> onnx.ModelProto:
    """y = the first tensor of the sequence x."""
    nodes = [
        helper.make_node("Constant", [], ["first"], value_int=0),
        helper.make_node("SequenceAt", ["x", "first"], ["y"]),
    ]
    tensor = tensor_type(TensorProto.FLOAT, ["n"])
    return with_input(nodes, sequence_type(tensor), tensor)


def map_through(key_type: int) -> onnx.ModelProto:
    """y = 2x beside a map m that goes through: no operator of ONNX makes a map that is in no sequence."""
    proto = onnx_models.doubler()
    maps = map_type(key_type, tensor_type(TensorProto.FLOAT, []))
    proto.graph.input.append(helper.make_value_info("m", maps))
    proto.graph.output.append(helper.make_value_info("m", maps))
    return proto


def any_rank(element_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """y = -x for a tensor of any rank."""
    any_shape = tensor_type(element_type, None)
    return with_input([helper.make_node("Neg", ["x"], ["y"])], any_shape, any_shape)


def reshaped() -> onnx.ModelProto:
    """y = x in the shape that a request says, whose rank no one knows before."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return with_output([node], [X, ("shape", TensorProto.INT64, ["rank"])], tensor_type(TensorProto.FLOAT, None))
