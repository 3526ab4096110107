"""Tiny ONNX models of sequences: sums over a sequence, by the controls or by a state that the server keeps."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_models
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def controls(id_type: int = TensorProto.INT64, batch: bool = True) -> onnx.ModelProto:
    """Gives back what the server says of each row: ``start``, ``ready``, ``end`` (FP32, INT32, BOOL), ``id`` and x."""
    shape: Shape = ["batch", 1] if batch else [1]
    types = {"START": TensorProto.FLOAT, "READY": TensorProto.INT32, "END": TensorProto.BOOL, "CORRID": id_type}
    names = {"START": "start", "READY": "ready", "END": "end", "CORRID": "id"}
    nodes = [helper.make_node("Identity", [name], [names[name]]) for name in types]
    return onnx_models.model(
        [*nodes, helper.make_node("Identity", ["x"], ["y"])],
        [*((name, kind, shape) for name, kind in types.items()), ("x", TensorProto.FLOAT, shape)],
        [*((names[name], kind, shape) for name, kind in types.items()), ("y", TensorProto.FLOAT, shape)],
    )


def accumulator(batch: bool = True, started: bool = False) -> onnx.ModelProto:
    """y = sum_out = x + sum_in: the sum over a sequence. ``started``: by itself, the graph starts anew at START."""
    shape: Shape = ["batch", 1] if batch else [1]
    kept = "sum_in"
    nodes = []
    inputs: list[tuple[str, int, Shape]] = [("x", TensorProto.FLOAT, shape), ("sum_in", TensorProto.FLOAT, shape)]
    if started:
        nodes.append(helper.make_node("Sub", ["one", "START"], ["goes_on"]))
        nodes.append(helper.make_node("Mul", ["sum_in", "goes_on"], ["kept"]))
        inputs.append(("START", TensorProto.FLOAT, shape))
        kept = "kept"
    nodes.append(helper.make_node("Add", ["x", kept], ["sum_out"]))
    nodes.append(helper.make_node("Identity", ["sum_out"], ["y"]))
    return onnx_models.model(
        nodes,
        inputs,
        [("y", TensorProto.FLOAT, shape), ("sum_out", TensorProto.FLOAT, shape)],
        {"one": np.array(1, np.float32)},
    )


def scaled_accumulator(factor: float) -> onnx.ModelProto:
    """y = sum_out = factor * x + sum_in."""
    shape: Shape = ["batch", 1]
    return onnx_models.model(
        [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "sum_in"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, shape), ("sum_in", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape), ("sum_out", TensorProto.FLOAT, shape)],
        {"factor": np.array(factor, np.float32)},
    )


def checked_accumulator() -> onnx.ModelProto:
    """y = table[x] + the sum of those before it in the sequence, for a table of 4 numbers: 9 fails in the run."""
    shape: Shape = ["batch", 1]
    return onnx_models.model(
        [
            helper.make_node("Gather", ["table", "x"], ["found"]),
            helper.make_node("Add", ["found", "sum_in"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["y"]),
        ],
        [("x", TensorProto.INT64, shape), ("sum_in", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape), ("sum_out", TensorProto.FLOAT, shape)],
        {"table": np.arange(4, dtype=np.float32)},
    )


def slow_accumulator() -> onnx.ModelProto:
    """As ``accumulator``, after as many steps of a Loop as the largest number in x says."""
    shape: Shape = ["batch", 1]
    proto = onnx_models.slow_as_asked()
    graph = proto.graph
    nodes = [*graph.node, helper.make_node("Add", ["y", "sum_in"], ["sum_out"])]
    nodes.append(helper.make_node("Identity", ["sum_out"], ["sum"]))
    return onnx_models.model(
        nodes,
        [("x", TensorProto.FLOAT, shape), ("sum_in", TensorProto.FLOAT, shape)],
        [("sum", TensorProto.FLOAT, shape), ("sum_out", TensorProto.FLOAT, shape)],
        {"keep": np.array(True)},
    )


def memory() -> onnx.ModelProto:
    """y = all_out = everything of the sequence: a state that grows with each request, of any number of columns."""
    return onnx_models.model(
        [
            helper.make_node("Concat", ["all_in", "x"], ["all_out"], axis=1),
            helper.make_node("Identity", ["all_out"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", "more"]), ("all_in", TensorProto.FLOAT, ["batch", "before"])],
        [("y", TensorProto.FLOAT, ["batch", "after"]), ("all_out", TensorProto.FLOAT, ["batch", "after"])],
    )


# -- configurations ----------------------------------------------------------------------------------------------------

CONTROLS = """
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } ] }
  ]"""
SUM = 'state [ { input_name: "sum_in" output_name: "sum_out" data_type: TYPE_FP32 dims: [ 1 ] } ]'


def block(content: str, max_batch_size: int = 4, instances: int = 1) -> str:
    """A ``config.pbtxt`` with ``content`` in its ``sequence_batching`` block; the rest comes from the graph."""
    group = f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]"
    return f"max_batch_size: {max_batch_size} {group} sequence_batching {{ {content} }}"
