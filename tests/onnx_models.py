"""Tiny ONNX models that tests build on the spot, of opset 17 and IR 8, so that every supported runtime loads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[tuple[str, int, Shape]],
    outputs: Sequence[tuple[str, int, Shape]],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model of ``nodes``; inputs and outputs are (name, ONNX element type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info(*given) for given in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def identity(element_type: int = TensorProto.FLOAT, shape: Shape = ("batch", 4)) -> onnx.ModelProto:
    """y = x, of any datatype that ONNX Runtime's Identity has."""
    return model(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", element_type, shape)], [("y", element_type, shape)]
    )


def doubler(shape: Shape = ("batch", 4)) -> onnx.ModelProto:
    """y = 2x in FP32."""
    return model(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
        {"two": np.array(2, np.float32)},
    )


def adder(constant: float, shape: Shape = ("batch", 4)) -> onnx.ModelProto:
    """y = x + constant in FP32: versions that can be told apart by their answers."""
    return model(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
        {"c": np.array(constant, np.float32)},
    )


def widener(columns: int) -> onnx.ModelProto:
    """y = x repeated in so many columns, from one: a short request with a long answer."""
    return model(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ("batch", 1))],
        [("y", TensorProto.FLOAT, ("batch", columns))],
        {"shape": np.array([1, columns], np.int64)},
    )


def gather() -> onnx.ModelProto:
    """y = table[x] for a table of 4 numbers: an index past its end fails inside ONNX Runtime."""
    return model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, ["batch", 1])],
        [("y", TensorProto.FLOAT, ["batch", 1])],
        {"table": np.arange(4, dtype=np.float32)},
    )


def slow(iterations: int) -> onnx.ModelProto:
    """y = x after a Loop of ``iterations`` small steps; about a microsecond each, and it can be terminated."""
    return model(
        [helper.make_node("Loop", ["count", "keep", "x"], ["y"], body=_idle_steps())],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"count": np.array(iterations, np.int64), "keep": np.array(True)},
    )


def slow_as_asked() -> onnx.ModelProto:
    """y = x after as many steps of a Loop as the largest number in x says: a request decides how long it takes."""
    return model(
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["count"], to=TensorProto.INT64),
            helper.make_node("Loop", ["count", "keep", "x"], ["y"], body=_idle_steps()),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"keep": np.array(True)},
    )


def _idle_steps() -> onnx.GraphProto:
    return helper.make_graph(
        [
            helper.make_node("Identity", ["keep_in"], ["keep_out"]),
            helper.make_node("Identity", ["value_in"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, None),
        ],
    )


def stubborn() -> onnx.ModelProto:
    """y = the number of boxes of the largest ``n`` that do not overlap: one node that takes n² steps and never looks
    whether it should end. About two seconds for 60,000."""
    return model(
        [
            helper.make_node("ReduceMax", ["n"], ["count"], keepdims=0),
            helper.make_node("Range", ["zero", "count", "one"], ["numbers"]),
            helper.make_node("Unsqueeze", ["numbers", "second"], ["lower"]),
            helper.make_node("Add", ["lower", "one"], ["upper"]),
            helper.make_node("Concat", ["lower", "lower", "upper", "upper"], ["corners"], axis=1),
            helper.make_node("Unsqueeze", ["corners", "first"], ["boxes"]),
            helper.make_node("Unsqueeze", ["numbers", "both"], ["scores"]),
            helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["selected"]),
            helper.make_node("Shape", ["selected"], ["y"]),
        ],
        [("n", TensorProto.FLOAT, ["any"])],
        [("y", TensorProto.INT64, [2])],
        {
            "zero": np.array(0, np.float32),
            "one": np.array(1, np.float32),
            "first": np.array([0]),
            "second": np.array([1]),
            "both": np.array([0, 1]),
            "most": np.array([10**9]),
        },
    )


def dynamically_quantised() -> onnx.ModelProto:
    """y = x·w in 8 bits, with one scale for the whole batch: a row's answer depends on its neighbours."""
    weights = np.random.default_rng(0).integers(-127, 127, (4, 4)).astype(np.int8)
    return model(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["quantised", "scale", "zero_point"]),
            helper.make_node("MatMulInteger", ["quantised", "w", "zero_point"], ["product"]),
            helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "scale"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"w": weights},
    )


def centred() -> onnx.ModelProto:
    """y = x less the mean of all rows: a row's answer depends on its neighbours, and no operator's name tells it."""
    return model(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
    )


def first_row() -> onnx.ModelProto:
    """y = the first row of x alone: declared with a batch dimension that it does not keep, which only a run shows."""
    return model(
        [
            helper.make_node("Mul", ["x", "zero"], ["nothing"]),
            helper.make_node("ReduceMax", ["nothing"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["number"], to=TensorProto.INT64),
            helper.make_node("Add", ["number", "one"], ["end"]),
            helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {"zero": np.array(0, np.float32), "one": np.array([1]), "start": np.array([0]), "axis": np.array([0])},
    )


def perceptron(width: int = 64) -> onnx.ModelProto:
    """y = two layers with a softmax over x of ``width`` numbers; a batch pays, and may differ in the last bits."""
    random = np.random.default_rng(0)
    return model(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "v"], ["c"]),
            helper.make_node("Softmax", ["c"], ["y"], axis=-1),
        ],
        [("x", TensorProto.FLOAT, ["batch", width])],
        [("y", TensorProto.FLOAT, ["batch", width])],
        {
            "w": random.normal(0, 0.2, (width, width)).astype(np.float32),
            "v": random.normal(0, 0.2, (width, width)).astype(np.float32),
        },
    )


def convolution(size: int = 32) -> onnx.ModelProto:
    """y = a layer of 8 filters of 3×3 over a picture x of ``size``²; on a CPU a batch gains next to nothing."""
    weights = np.random.default_rng(0).normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    return model(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        [("x", TensorProto.FLOAT, ["batch", 3, size, size])],
        [("y", TensorProto.FLOAT, ["batch", 8, size, size])],
        {"w": weights},
    )


def zip_map(labels: Sequence[int] | Sequence[str]) -> onnx.ModelProto:
    """y = for each row of x a map from ``labels`` to its values, as scikit-learn's classifiers are exported."""
    texts = all(isinstance(label, str) for label in labels)
    key = TensorProto.STRING if texts else TensorProto.INT64
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml")
    node.attribute.append(helper.make_attribute("classlabels_strings" if texts else "classlabels_int64s", list(labels)))
    proto = model(
        [node],
        [("x", TensorProto.FLOAT, ["batch", len(labels)])],
        [],
    )
    proto.graph.output.append(helper.make_value_info("y", maps))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return proto


def sequence() -> onnx.ModelProto:
    """y = the sequence of the tensors a and b, whose rows may differ in number."""
    proto = model(
        [helper.make_node("SequenceConstruct", ["a", "b"], ["y"])],
        [("a", TensorProto.FLOAT, ["m", 2]), ("b", TensorProto.FLOAT, ["n", 2])],
        [],
    )
    proto.graph.output.append(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    return proto


def with_default(default: float, shape: Shape = ("batch", 4)) -> onnx.ModelProto:
    """y = x + c, where c is an input that a request may leave out."""
    return model(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        [("x", TensorProto.FLOAT, shape), ("c", TensorProto.FLOAT, [1])],
        [("y", TensorProto.FLOAT, shape)],
        {"c": np.full(1, default, np.float32)},
    )


def with_external_data(size: int = 64, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """y = x + [0, 1, 2, …], where ``save_externally`` puts the numbers into a file of their own."""
    return model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", size])],
        [("y", TensorProto.FLOAT, ["batch", size])],
        {"w": np.arange(size, dtype=np.float32)},
        opset,
        ir_version,
    )


def save_externally(proto: onnx.ModelProto, path: Path) -> Path:
    """Write the model with its weights in weights.bin beside it; the weights' path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path.parent / "weights.bin"


def chain(length: int) -> onnx.ModelProto:
    """y = sin(sin(… x)) through ``length`` nodes, which take seconds to load by the ten thousand."""
    nodes = [helper.make_node("Sin", [f"t{index}"], [f"t{index + 1}"]) for index in range(length)]
    first, last = helper.make_node("Identity", ["x"], ["t0"]), helper.make_node("Identity", [f"t{length}"], ["y"])
    tensor = (TensorProto.FLOAT, ["batch", 4])
    return model([first, *nodes, last], [("x", *tensor)], [("y", *tensor)])


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write the model, making the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path


def save_version(repository: Path, name: str, proto: onnx.ModelProto, version: int = 1, config: str = "") -> Path:
    """Put the model into a repository as ``name``/``version``/model.onnx, with a config.pbtxt if one is given."""
    save(proto, repository / name / str(version) / "model.onnx")
    if config:
        (repository / name / "config.pbtxt").write_text(config)
    return repository / name
