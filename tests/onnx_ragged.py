"""Models that take the requests of a batch end to end, and the configurations that go with them."""

import numpy as np
import onnx
import onnx_models
from onnx import TensorProto, helper

FLAT = ["elements"]


def sums() -> onnx.ModelProto:
    """sum = the sum of each request's x, which ``ends`` (with a zero before) tells apart: one row for each request."""
    nodes = [
        helper.make_node("Concat", ["zero", "x"], ["padded"], axis=0),
        helper.make_node("CumSum", ["padded", "first"], ["upto"]),
        helper.make_node("Gather", ["upto", "ends"], ["at_ends"]),
        helper.make_node("Slice", ["at_ends", "one", "far"], ["after"]),
        helper.make_node("Slice", ["at_ends", "nought", "last"], ["before"]),
        helper.make_node("Sub", ["after", "before"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["sum"]),
    ]
    return onnx_models.model(
        nodes,
        [("x", TensorProto.FLOAT, FLAT), ("ends", TensorProto.INT32, ["ends"])],
        [("sum", TensorProto.FLOAT, ["batch", 1])],
        {
            "zero": np.zeros(1, np.float32),
            "first": np.array(0),
            "nought": np.array([0]),
            "one": np.array([1]),
            "far": np.array([2**31]),
            "last": np.array([-1]),
        },
    )


def doubled_and_counted() -> onnx.ModelProto:
    """y = 2x, element by element; count = each request's number of elements."""
    return onnx_models.model(
        [
            helper.make_node("Add", ["x", "x"], ["y"]),
            helper.make_node("Unsqueeze", ["counts", "second"], ["count"]),
        ],
        [("x", TensorProto.FLOAT, FLAT), ("counts", TensorProto.FLOAT, ["requests"])],
        [("y", TensorProto.FLOAT, FLAT), ("count", TensorProto.FLOAT, ["batch", 1])],
        {"second": np.array([1])},
    )


def failing() -> onnx.ModelProto:
    """y = table[x] for a table of 4 numbers, element by element: an index past its end fails in the run."""
    return onnx_models.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, FLAT)],
        [("y", TensorProto.FLOAT, FLAT)],
        {"table": np.arange(4, dtype=np.float32)},
    )


# -- configurations ----------------------------------------------------------------------------------------------------

SUMS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
output [ { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] } ]
batch_input [ {
  kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO target_name: "ends" data_type: TYPE_INT32 source_input: "x"
} ]
"""
DOUBLED = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }, { name: "count" data_type: TYPE_FP32 dims: [ 1 ] } ]
batch_input [ { kind: BATCH_ELEMENT_COUNT target_name: "counts" data_type: TYPE_FP32 source_input: "x" } ]
batch_output [ { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "x" } ]
"""
FAILING = """
input [ { name: "x" data_type: TYPE_INT64 dims: [ -1 ] allow_ragged_batch: true } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
batch_output [ { target_name: "y" source_input: "x" } ]
"""
GROUP = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"


def config(tensors: str, batching: str = "", max_batch_size: int = 8) -> str:
    return f"max_batch_size: {max_batch_size}\n{GROUP}dynamic_batching {{ {batching} }}\n{tensors}"
