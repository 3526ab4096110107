"""What a model's operators give away, wherever in its file they stand."""

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.execution.model_facts import FactsReader, ModelFacts

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
def test_operators_are_found(proto: onnx.ModelProto, loops: bool, mixes_rows: bool) -> None:
    facts = facts_of(proto.SerializeToString())
    assert (facts.loops, facts.mixes_rows) == (loops, mixes_rows)


@pytest.mark.parametrize("start", [0, CHUNK - 23, CHUNK - 12, CHUNK - 1, CHUNK, 2 * CHUNK - 5, 2 * CHUNK])
def test_a_node_is_found_wherever_it_stands(start: int) -> None:
    node = b'"\x15DynamicQuantizeLinear'
    facts = facts_of(bytes(start) + node + b"\x04Loop" + bytes(3 * CHUNK - start))
    assert (facts.loops, facts.mixes_rows) == (False, True)


@pytest.mark.parametrize("size", [1, 7, CHUNK])
def test_a_node_is_found_in_chunks_of_any_size(size: int) -> None:
    facts = facts_of(b"\0" * 100 + b'"\x15DynamicQuantizeLinear' + b"\0" * 100, size)
    assert facts.mixes_rows


@pytest.mark.parametrize(
    ("content", "names_files"),
    [(b"", False), (b"locatio", False), (b"n" * CHUNK + b"locations", True), (b"n" * (CHUNK - 3) + b"location", True)],
)
def test_a_content_that_may_name_files_is_known_by_its_words(content: bytes, names_files: bool) -> None:
    assert read_by(content).names_files is names_files


def read_by(content: bytes, chunk: int = CHUNK) -> FactsReader:
    reader = FactsReader()
    for start in range(0, len(content), chunk):
        reader.update(content[start : start + chunk])
    return reader


def facts_of(content: bytes, chunk: int = CHUNK) -> ModelFacts:
    facts = read_by(content, chunk).facts("the hash")
    assert facts.sha256 == "the hash"
    return facts
