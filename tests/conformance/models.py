"""The repository that the conformance tests ask: one small model for each thing that the protocol can say."""

from pathlib import Path

import onnx_models
from onnx import ModelProto, TensorProto, helper

from ortolan.inference.datatypes import DATATYPES, Datatype

FLOAT = TensorProto.FLOAT
AT_ONCE = "instance_group [ { count: 1, kind: KIND_CPU } ]\n"


def write_repository(root: Path) -> None:
    """Every model; those in ``unloaded`` are for tests that load and unload."""
    for datatype in DATATYPES:
        _identities(root, datatype)
    onnx_models.save_version(root, "batched", onnx_models.identity(), config="max_batch_size: 4\n")
    onnx_models.save_version(root, "vector", onnx_models.identity(FLOAT, ("n",)), config=_VECTOR)
    onnx_models.save_version(root, "detailed", onnx_models.identity(), config=_DETAILED)
    onnx_models.save_version(root, "pair", _pair(), config="max_batch_size: 8\n")
    onnx_models.save_version(root, "mixed", _mixed(), config=_MIXED)
    onnx_models.save_version(root, "optional", onnx_models.with_default(1.5), config=_OPTIONAL)
    onnx_models.save_version(root, "reshaped", onnx_models.identity(FLOAT, ("batch", 2, 3)), config=_RESHAPED)
    onnx_models.save_version(root, "gather", onnx_models.gather(), config="max_batch_size: 4\n" + AT_ONCE)
    _labelled(root)
    for number in (2, 9, 10):
        path = onnx_models.save_version(root, "versions", onnx_models.adder(number), number)
    (path / "config.pbtxt").write_text("version_policy { all { } }\n")


def write_unloaded(root: Path) -> None:
    """Models that are not loaded at the start: ``come`` and ``go`` are good, ``broken`` is no model at all."""
    for name in ("come", "go"):
        onnx_models.save_version(root, name, onnx_models.doubler())
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "model.onnx").write_bytes(b"no model")


def _identities(root: Path, datatype: Datatype) -> None:
    """``any_fp32`` of rows and columns, and ``scalar_fp32``, whose graph's tensors have no dimension at all."""
    name, element = datatype.name.lower(), datatype.onnx_element_type
    config = "".join(
        f'{side} [ {{ name: "{tensor}", data_type: {datatype.config_name}, dims: %s }} ]\n'
        for side, tensor in (("input", "x"), ("output", "y"))
    )
    onnx_models.save_version(
        root,
        f"any_{name}",
        onnx_models.identity(element, ("rows", "columns")),
        config=config.replace("%s", "[ -1, -1 ]") + AT_ONCE,
    )
    scalar = config.replace("%s", "[ 1 ], reshape: { shape: [ ] }")
    onnx_models.save_version(root, f"scalar_{name}", onnx_models.identity(element, ()), config=scalar + AT_ONCE)


def _pair() -> ModelProto:
    """Triton's "simple": sum = a + b, difference = a - b."""
    row = (TensorProto.INT32, ["batch", 4])
    return onnx_models.model(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [("a", *row), ("b", *row)],
        [("sum", *row), ("difference", *row)],
    )


_DETAILED = """max_batch_size: 8
version_policy { specific { versions: [ 1 ] } }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  priority_levels: 2
  default_priority_level: 1
  default_queue_policy { timeout_action: DELAY, default_timeout_microseconds: 4294967296000 }
}
parameters { key: "note" value { string_value: "any text" } }
"""

_VECTOR = """max_batch_size: 0
input [ { name: "x", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "y", data_type: TYPE_FP32, dims: [ -1 ] } ]
"""

_MIXED = """max_batch_size: 0
input [
  { name: "numbers", data_type: TYPE_FP32, dims: [ -1 ] },
  { name: "texts", data_type: TYPE_STRING, dims: [ -1 ] },
  { name: "truths", data_type: TYPE_BOOL, dims: [ -1 ] }
]
output [
  { name: "numbers_out", data_type: TYPE_FP32, dims: [ -1 ] },
  { name: "texts_out", data_type: TYPE_STRING, dims: [ -1 ] },
  { name: "truths_out", data_type: TYPE_BOOL, dims: [ -1 ] }
]
"""


def _mixed() -> ModelProto:
    """Three inputs of different datatypes and lengths that come back as they are."""
    tensors = [("numbers", FLOAT, ["n"]), ("texts", TensorProto.STRING, ["t"]), ("truths", TensorProto.BOOL, ["b"])]
    return onnx_models.model(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in tensors],
        tensors,
        [(f"{name}_out", element, shape) for name, element, shape in tensors],
    )


_OPTIONAL = """max_batch_size: 0
input [
  { name: "x", data_type: TYPE_FP32, dims: [ -1, 4 ] },
  { name: "c", data_type: TYPE_FP32, dims: [ 1 ], optional: true }
]
output [ { name: "y", data_type: TYPE_FP32, dims: [ -1, 4 ] } ]
"""

_RESHAPED = """max_batch_size: 4
input [ { name: "x", data_type: TYPE_FP32, dims: [ 6 ], reshape: { shape: [ 2, 3 ] } } ]
output [ { name: "y", data_type: TYPE_FP32, dims: [ 3, 2 ], reshape: { shape: [ 2, 3 ] } } ]
"""

_LABELLED = """max_batch_size: 4
input [ { name: "x", data_type: %s, dims: [ 4 ] } ]
output [ { name: "y", data_type: %s, dims: [ 4 ], label_filename: "labels.txt" } ]
"""


def _labelled(root: Path) -> None:
    """``labelled_fp32`` and so on for each datatype that has an order; the fourth class has no label."""
    for datatype in DATATYPES:
        if not datatype.is_integer and datatype.name not in ("FP32", "FP64"):
            continue
        directory = onnx_models.save_version(
            root,
            f"labelled_{datatype.name.lower()}",
            onnx_models.identity(datatype.onnx_element_type),
            config=_LABELLED % (datatype.config_name, datatype.config_name),
        )
        (directory / "labels.txt").write_text("nought\none\ntwo\n")
