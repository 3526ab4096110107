"""Models that hold as much memory as they are told to: weights that the runtime can neither fold nor drop."""

import numpy as np
import onnx
import onnx_models
from onnx import TensorProto, helper


def heavy(constant: float, mebibytes: float, seed: int = 0) -> onnx.ModelProto:
    """y = x + constant. It looks up a row of a table of so many MiB by what it is asked, and adds it zero times."""
    rows = int(mebibytes * (1 << 18) / 4)
    table = np.random.default_rng(seed).random(size=(rows, 4), dtype=np.float32)
    return onnx_models.model(
        [
            helper.make_node("Mul", ["x", "zero"], ["nothing"]),
            helper.make_node("ReduceSum", ["nothing", "axes"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["places"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "places"], ["row"]),
            helper.make_node("Mul", ["row", "zero"], ["no_row"]),
            helper.make_node("Add", ["no_row", "c"], ["shift"]),
            helper.make_node("Add", ["x", "shift"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {
            "table": table,
            "axes": np.array([1], np.int64),
            "zero": np.array(0, np.float32),
            "c": np.array(constant, np.float32),
        },
    )


def burst(columns: int = 4096) -> onnx.ModelProto:
    """y = a number for each row of x, by way of a few tensors of so many columns: large batches need much memory."""
    return onnx_models.model(
        [
            helper.make_node("MatMul", ["x", "w"], ["wide"]),
            helper.make_node("Exp", ["wide"], ["e"]),
            helper.make_node("Tanh", ["e"], ["t"]),
            helper.make_node("Add", ["t", "wide"], ["both"]),
            helper.make_node("ReduceMean", ["both"], ["y"], axes=[1], keepdims=1),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 1])],
        {"w": np.full((4, columns), 1 / columns, np.float32)},
    )


def as_large_as_asked() -> onnx.ModelProto:
    """y = x, by way of a tensor of as many MiB as the largest number in x says."""
    return onnx_models.model(
        [
            helper.make_node("ReduceMax", ["x"], ["mebibytes"], keepdims=0),
            helper.make_node("Cast", ["mebibytes"], ["count"], to=TensorProto.INT64),
            helper.make_node("Mul", ["count", "elements_each"], ["elements"]),
            helper.make_node("Reshape", ["elements", "one"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"elements_each": np.array(1 << 18), "one": np.array([1])},
    )
