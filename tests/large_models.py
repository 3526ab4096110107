"""Models that take a while to load, each for another reason; all of them take and give FP32 rows of four."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_models
from onnx import TensorProto, helper

_INPUT, _OUTPUT = ("x", TensorProto.FLOAT, ["batch", 4]), ("y", TensorProto.FLOAT, ["batch", 4])


def perceptron(mebibytes: float) -> onnx.ModelProto:
    """Fully connected layers with so many weights, most of them in three square matrices."""
    width = int((mebibytes * (1 << 18) / 3) ** 0.5)
    random = np.random.default_rng(0)
    weights = {f"w{i}": (random.normal(size=(width, width)) / width).astype(np.float32) for i in range(3)}
    weights["first"] = random.normal(size=(4, width)).astype(np.float32)
    weights["last"] = random.normal(size=(width, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    for i in range(3):
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("MatMul", ["h3", "last"], ["y"]))
    return onnx_models.model(nodes, [_INPUT], [_OUTPUT], weights)


def chain(length: int) -> onnx.ModelProto:
    """So many nodes without weights, one behind the other."""
    names = ["x", *(f"v{i}" for i in range(1, length)), "y"]
    nodes = [helper.make_node("Neg" if i % 2 else "Relu", [names[i]], [names[i + 1]]) for i in range(length)]
    return onnx_models.model(nodes, [_INPUT], [_OUTPUT])


def additions(count: int) -> onnx.ModelProto:
    """So many small constants, one behind the other added to the input."""
    names = ["x", *(f"v{i}" for i in range(1, count)), "y"]
    nodes = [helper.make_node("Add", [names[i], f"c{i}"], [names[i + 1]]) for i in range(count)]
    constants = {f"c{i}": np.full(4, i, np.float32) for i in range(count)}
    return onnx_models.model(nodes, [_INPUT], [_OUTPUT], constants)


def save_with_external_data(repository: Path, name: str, model: onnx.ModelProto, smallest_bytes: int) -> None:
    """Save version 1 of the model; tensors of ``smallest_bytes`` and more go to a file beside it."""
    file = repository / name / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=smallest_bytes)


NEIGHBOURS: Mapping[str, Callable[[Path, str], object]] = {
    "embedded_168_mib": lambda repository, name: onnx_models.save_version(repository, name, perceptron(168)),
    "external_168_mib": lambda repository, name: save_with_external_data(repository, name, perceptron(168), 1024),
    "nodes_40000": lambda repository, name: onnx_models.save_version(repository, name, chain(40_000)),
    "constants_4000": lambda repository, name: save_with_external_data(repository, name, additions(4000), 0),
}
"""What a neighbour may be, by name: each saves its model in a repository under a name."""
