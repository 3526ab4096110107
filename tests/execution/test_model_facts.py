"""The hash of a model's file and what its operators give away, wherever in the file they stand."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.errors import InvalidArgument
from ortolan.execution.model_facts import read_facts

CHUNK = 1 << 20
X_AND_Y = ([("x", TensorProto.FLOAT, ("batch", 4))], [("y", TensorProto.FLOAT, ("batch", 4))])


def with_branches() -> onnx.ModelProto:
    def branch(operator: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], ["out"])], operator, [], [output])

    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch("Neg"), else_branch=branch("Abs"))
    return onnx_models.model([node], *X_AND_Y, {"yes": np.array(True)})


def with_node(operator: str, domain: str = "") -> onnx.ModelProto:
    return onnx_models.model([helper.make_node(operator, ["x"], ["y"], domain=domain)], *X_AND_Y)


@pytest.mark.parametrize(
    ("proto", "loops", "mixes_rows"),
    [
        (onnx_models.doubler(), False, False),
        (onnx_models.gather(), False, False),
        (onnx_models.slow(3), True, False),
        (with_branches(), True, False),
        (with_node("Scan"), True, False),
        (with_node("SequenceMap"), True, False),
        (with_node("ConstantOfShape"), True, False),
        (with_node("Tile"), True, False),
        (with_node("DynamicQuantizeLinear"), False, True),
        (with_node("DynamicQuantizeLSTM", "com.microsoft"), False, True),
        (with_node("DynamicQuantizeMatMul", "com.microsoft"), False, True),
        (with_node("QuantizeLinear"), False, False),
        (with_node("LoopFree"), False, False),
    ],
)
def test_operators_are_found(tmp_path: Path, proto: onnx.ModelProto, loops: bool, mixes_rows: bool) -> None:
    path = onnx_models.save(proto, tmp_path / "model.onnx")
    facts = read_facts(path)
    assert (facts.loops, facts.mixes_rows) == (loops, mixes_rows)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("start", [0, CHUNK - 23, CHUNK - 12, CHUNK - 1, CHUNK, 2 * CHUNK - 5, 2 * CHUNK])
def test_a_node_is_found_wherever_it_stands(tmp_path: Path, start: int) -> None:
    path = tmp_path / "model.onnx"
    node = b'"\x15DynamicQuantizeLinear'
    path.write_bytes(bytes(start) + node + b"\x04Loop" + bytes(3 * CHUNK - start))
    facts = read_facts(path)
    assert (facts.loops, facts.mixes_rows) == (False, True)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_empty_file_has_facts_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    assert read_facts(path).sha256 == hashlib.sha256().hexdigest()


def test_a_file_that_cannot_be_read_is_refused_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="the model's file cannot be read: No such file") as caught:
        read_facts(tmp_path / "model.onnx")
    assert str(tmp_path) not in str(caught.value)
