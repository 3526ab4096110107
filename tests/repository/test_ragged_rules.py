"""Ragged inputs, batch inputs and batch outputs in a configuration: read, shown back, checked against the graph."""

import onnx_ragged
import pytest

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import FP32, INT32, INT64
from ortolan.repository.config_completion import CompletionDefaults, complete
from ortolan.repository.config_file import parse_json, parse_text
from ortolan.repository.config_rendering import to_json, to_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.ragged_config import BatchInput, BatchInputKind, BatchOutput

X, ENDS, SUM = GraphTensor("x", FP32, (-1,)), GraphTensor("ends", INT32, (-1,)), GraphTensor("sum", FP32, (-1, 1))
GRAPH = GraphSignature((X, ENDS), (SUM,))
DOUBLED_GRAPH = GraphSignature(
    (X, GraphTensor("counts", FP32, (-1,))), (GraphTensor("y", FP32, (-1,)), GraphTensor("count", FP32, (-1, 1)))
)
SUMS, DOUBLED = onnx_ragged.SUMS, onnx_ragged.DOUBLED


def completed(text: str, graph: GraphSignature = GRAPH) -> ModelConfig:
    return complete(parse_text(text, "m"), graph, CompletionDefaults())


def refusal(text: str, graph: GraphSignature = GRAPH) -> str:
    with pytest.raises(InvalidArgument) as refused:
        completed(text, graph)
    return refused.value.message


def test_the_blocks_are_read_and_clients_see_only_the_inputs() -> None:
    config = completed(onnx_ragged.config(SUMS))
    assert [(spec.name, spec.ragged) for spec in config.inputs] == [("x", True)]
    kind = BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO
    assert config.batch_inputs == (BatchInput(kind, ("ends",), INT32, "x"),)
    doubled = completed(onnx_ragged.config(DOUBLED), DOUBLED_GRAPH)
    assert doubled.batch_outputs == (BatchOutput(("y",), "x"),)


@pytest.mark.parametrize(("text", "graph"), [(SUMS, GRAPH), (DOUBLED, DOUBLED_GRAPH)])
def test_they_are_shown_back_as_they_are_read(text: str, graph: GraphSignature) -> None:
    config = completed(onnx_ragged.config(text), graph)
    again = parse_text(to_text(config), "m")
    assert (again.inputs, again.batch_inputs, again.batch_outputs) == (
        config.inputs,
        config.batch_inputs,
        config.batch_outputs,
    )
    shown = to_json(config)
    assert shown["input"][0]["allow_ragged_batch"] is True
    assert len(shown["batch_input"]) == 1


def test_json_says_the_same() -> None:
    config = parse_json(
        '{"max_batch_size": 4, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1], "allow_ragged_batch": '
        'true}], "batch_input": [{"kind": "BATCH_ITEM_SHAPE", "target_name": ["a", "b"], "data_type": "TYPE_FP32", '
        '"source_input": ["x"]}]}',
        "m",
    )
    assert config.batch_inputs == (BatchInput(BatchInputKind.ITEM_SHAPE, ("a", "b"), FP32, "x"),)


def test_outputs_may_be_left_to_the_graph() -> None:
    text = SUMS.replace('output [ { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] } ]', "")
    config = completed(text)
    assert (config.max_batch_size, [spec.dims for spec in config.outputs]) == (4, [(1,)])


def test_a_ragged_input_may_have_fixed_dims_or_several() -> None:
    for dims in ("[ 16 ]", "[ -1, 4 ]"):
        assert completed(onnx_ragged.config(SUMS.replace("dims: [ -1 ]", f"dims: {dims}"))).inputs[0].ragged


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("TYPE_INT32", "TYPE_INT64", "batch input data type must be TYPE_INT32 or TYPE_FP32, got TYPE_INT64"),
        ("data_type: TYPE_INT32", "", "batch input data type must be TYPE_INT32 or TYPE_FP32, got none"),
        ('source_input: "x"', "", "'BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO' expects 1 source input, got 0"),
        ('source_input: "x"', 'source_input: [ "x", "x" ]', "expects 1 source input, got 2"),
        ('source_input: "x"', 'source_input: "z"', "unknown source input name 'z'; the inputs are x"),
        ('target_name: "ends"', "", "batch_input must specify target_name"),
        ('target_name: "ends"', 'target_name: "x"', "'x' must be either an input or a target_name of batch_input"),
        ('target_name: "ends"', 'target_name: [ "ends", "ends" ]', "'ends' must be either an input or a target_name"),
        ('target_name: "ends"', 'target_name: "other"', "batch input 'other' is not an input of the model"),
        ("TYPE_INT32", "TYPE_FP32", "in the model it has data-type TYPE_INT32, but the configuration says TYPE_FP32"),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "9", "kind 9 is unknown: write one of BATCH_ELEMENT_COUNT, "),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_COUNT", 'unknown value "BATCH_COUNT"'),
        (
            "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "BATCH_ITEM_SHAPE",
            "in the model it has dims [-1], but BATCH_ITEM_SHAPE gives [-1,1]",
        ),
        ("allow_ragged_batch: true", "allow_ragged_batch: true optional: true", "not supported for optional input"),
        ("batch_input", "sequence_batching { } batch_input", "are not available with sequence_batching"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, said: str) -> None:
    # Two blocks of scheduling exclude each other.
    text = onnx_ragged.config(SUMS).replace(
        "dynamic_batching {  }", "" if "sequence" in new else "dynamic_batching { }"
    )
    assert said in refusal(text.replace(old, new))


@pytest.mark.parametrize("shape", [(-1, -1), (-1, 16), (16,), ()])
def test_the_model_takes_a_ragged_input_in_one_dimension(shape: tuple[int, ...]) -> None:
    graph = GraphSignature((GraphTensor("x", FP32, shape), ENDS), (SUM,))
    sizes = ",".join(map(str, shape))
    assert (
        "unable to load model 'm', configuration expects model provides input with shape [-1] for ragged input 'x', "
        f"model provides [{sizes}]" in refusal(onnx_ragged.config(SUMS), graph)
    )


def test_a_count_of_requests_that_the_graph_fixes_is_refused_but_for_one() -> None:
    graph = GraphSignature((X, GraphTensor("ends", INT32, (2,))), (SUM,))
    assert "it has dims [2], but BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO gives [-1]" in refusal(
        onnx_ragged.config(SUMS), graph
    )
    assert completed(onnx_ragged.config(SUMS, max_batch_size=1), graph).batch_inputs


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('target_name: "y"', 'target_name: "z"', "batch_output: unknown target output name 'z'"),
        ('target_name: "y"', "", "batch_output must specify target_name"),
        ('SHAPE source_input: "x"', "SHAPE", "'BATCH_SCATTER_WITH_INPUT_SHAPE' expects 1 source input, got 0"),
        ('SHAPE source_input: "x"', 'SHAPE source_input: "z"', "batch_output 'y': unknown source input name 'z'"),
        ('target_name: "y"', 'target_name: [ "y", "y" ]', "'y' is the target_name of two batch_output"),
        (
            '"y" data_type: TYPE_FP32 dims: [ -1 ]',
            '"y" data_type: TYPE_FP32 dims: [ 2, -1 ]',
            "output 'y' has dims [2,-1], whose variable sizes are those of input 'x', which has dims [-1]",
        ),
    ],
)
def test_what_is_wrong_with_a_batch_output_is_named(old: str, new: str, said: str) -> None:
    assert said in refusal(onnx_ragged.config(DOUBLED).replace(old, new), DOUBLED_GRAPH)


def test_an_input_that_the_model_has_and_no_one_gives_is_missed_as_ever() -> None:
    graph = GraphSignature((X, ENDS, GraphTensor("more", INT64, (-1, 1))), (SUM,))
    assert "configuration expects 1 inputs, model provides 2: x, more" in refusal(onnx_ragged.config(SUMS), graph)


def test_in_an_ensemble_it_is_ignored_with_a_word() -> None:
    config = parse_text(
        'platform: "ensemble" max_batch_size: 2 ' + SUMS.split("batch_input")[0] + "ensemble_scheduling { step { "
        'model_name: "a" input_map { key: "x" value: "x" } output_map { key: "sum" value: "sum" } } }',
        "m",
    )
    assert "allow_ragged_batch is ignored in an ensemble" in config.warnings[0]
