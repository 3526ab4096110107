"""The four models of the grid, built on the spot: a repository that every server of the protocol can be given.

`python benchmarks/grid_models.py DIRECTORY` writes them, so that a peer can be started with the same models.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx
import onnx_models
from onnx import NodeProto, TensorProto, helper

MODELS = ("tiny", "mlp", "convnet", "transformer")

_CLASSES = 10
# Channels in, channels out, stride, how much wider inside: after MobileNetV2, fewer of them.
_BLOCKS = (
    (16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 32, 2, 6), (32, 32, 1, 6),
    (32, 64, 2, 6), (64, 64, 1, 6), (64, 96, 1, 6), (96, 160, 2, 6), (160, 160, 1, 6),
)  # fmt: skip
_LAYERS, _HIDDEN, _HEADS, _SEQUENCE, _VOCABULARY = 4, 256, 4, 128, 1000


class _Graph:
    """Nodes and weights while a model is put together; each step returns the name of its result."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._draw = np.random.default_rng(seed)

    def weight(self, *shape: int) -> str:
        scale = np.sqrt(2 / max(1, np.prod(shape[1:] if len(shape) == 4 else shape[:1])))
        return self.constant((self._draw.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = value
        return name

    def apply(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def dense(self, x: str, width: int, out: int) -> str:
        product = self.apply("MatMul", x, self.weight(width, out))
        return self.apply("Add", product, self.constant(np.zeros(out, np.float32)))

    def model(self, inputs: tuple[str, int, tuple[int | str, ...]], result: str, out: tuple) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        return onnx_models.model(self.nodes, [inputs], [("y", TensorProto.FLOAT, out)], self.constants)


def tiny() -> onnx.ModelProto:
    """16×16 MatMul and Relu: what is left is the server."""
    graph = _Graph(1)
    product = graph.apply("MatMul", "x", graph.weight(16, 16))
    return graph.model(("x", TensorProto.FLOAT, ("batch", 16)), graph.apply("Relu", product), ("batch", 16))


def mlp() -> onnx.ModelProto:
    """784-512-512-10, for which batching pays."""
    graph = _Graph(2)
    hidden = graph.apply("Relu", graph.dense("x", 784, 512))
    hidden = graph.apply("Relu", graph.dense(hidden, 512, 512))
    result = graph.dense(hidden, 512, _CLASSES)
    return graph.model(("x", TensorProto.FLOAT, ("batch", 784)), result, ("batch", _CLASSES))


def convnet() -> onnx.ModelProto:
    """Inverted residuals over 3×224×224, as MobileNetV2 has them: 600 kB in, 40 bytes out."""
    graph = _Graph(3)
    x = _convolution(graph, "x", 3, 16, 3, stride=2)
    for block in _BLOCKS:
        x = _inverted_residual(graph, x, *block)
    pooled = graph.apply("Flatten", graph.apply("GlobalAveragePool", x))
    result = graph.dense(pooled, _BLOCKS[-1][1], _CLASSES)
    return graph.model(("x", TensorProto.FLOAT, ("batch", 3, 224, 224)), result, ("batch", _CLASSES))


def transformer() -> onnx.ModelProto:
    """An encoder of 4 layers, 256 wide, over 128 tokens: small in, 2.5 kB out, compute-bound."""
    graph = _Graph(4)
    x = graph.apply("Gather", graph.weight(_VOCABULARY, _HIDDEN), "ids")
    for _ in range(_LAYERS):
        x = _normalized(graph, graph.apply("Add", x, _attention(graph, x)))
        inner = graph.apply("Relu", graph.dense(x, _HIDDEN, 4 * _HIDDEN))
        x = _normalized(graph, graph.apply("Add", x, graph.dense(inner, 4 * _HIDDEN, _HIDDEN)))
    result = graph.dense(graph.apply("ReduceMean", x, axes=[1], keepdims=0), _HIDDEN, _CLASSES)
    return graph.model(("ids", TensorProto.INT64, ("batch", _SEQUENCE)), result, ("batch", _CLASSES))


def _convolution(
    graph: _Graph, x: str, channels: int, out: int, kernel: int, stride: int = 1, group: int = 1, active: bool = True
) -> str:
    side = kernel // 2
    weights = graph.weight(out, channels // group, kernel, kernel)
    x = graph.apply(
        "Conv", x, weights, kernel_shape=[kernel, kernel], pads=[side] * 4, strides=[stride] * 2, group=group
    )
    return graph.apply("Clip", x, graph.constant(np.float32(0)), graph.constant(np.float32(6))) if active else x


def _inverted_residual(graph: _Graph, x: str, channels: int, out: int, stride: int, wider: int) -> str:
    inside = channels * wider
    wide = _convolution(graph, x, channels, inside, 1) if wider > 1 else x
    deep = _convolution(graph, wide, inside, inside, 3, stride, group=inside)
    narrow = _convolution(graph, deep, inside, out, 1, active=False)
    return graph.apply("Add", x, narrow) if channels == out and stride == 1 else narrow


def _attention(graph: _Graph, x: str) -> str:
    shape = graph.constant(np.array([0, _SEQUENCE, _HEADS, _HIDDEN // _HEADS], np.int64))

    def heads(order: list[int]) -> str:
        return graph.apply("Transpose", graph.apply("Reshape", graph.dense(x, _HIDDEN, _HIDDEN), shape), perm=order)

    scale = graph.constant(np.float32((_HIDDEN // _HEADS) ** -0.5))
    scores = graph.apply("Mul", graph.apply("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1])), scale)
    mixed = graph.apply("MatMul", graph.apply("Softmax", scores, axis=-1), heads([0, 2, 1, 3]))
    flat = graph.constant(np.array([0, _SEQUENCE, _HIDDEN], np.int64))
    joined = graph.apply("Reshape", graph.apply("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
    return graph.dense(joined, _HIDDEN, _HIDDEN)


def _normalized(graph: _Graph, x: str) -> str:
    scale, bias = np.ones(_HIDDEN, np.float32), np.zeros(_HIDDEN, np.float32)
    return graph.apply("LayerNormalization", x, graph.constant(scale), graph.constant(bias), axis=-1)


_BUILD: dict[str, Callable[[], onnx.ModelProto]] = {
    "tiny": tiny,
    "mlp": mlp,
    "convnet": convnet,
    "transformer": transformer,
}


def write(repository: Path, name: str) -> Path:
    """Put the model called ``name`` into a repository; its file."""
    return onnx_models.save(_BUILD[name](), repository / name / "1" / "model.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name in MODELS:
        print(write(directory, name))


if __name__ == "__main__":
    main()
