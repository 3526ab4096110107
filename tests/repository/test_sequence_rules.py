import pytest
from onnx_sequences import CONTROLS, SUM

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.repository.config_completion import CompletionDefaults, complete
from ortolan.repository.config_file import parse_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig

FP32, INT32, INT64, BOOL = datatypes.FP32, datatypes.INT32, datatypes.INT64, datatypes.BOOL
OWN = (
    GraphTensor("START", FP32, (-1, 1)),
    GraphTensor("READY", INT32, (-1, 1)),
    GraphTensor("END", BOOL, (-1, 1)),
    GraphTensor("CORRID", INT64, (-1, 1)),
    GraphTensor("sum_in", FP32, (-1, 1)),
)
X, Y, KEPT = GraphTensor("x", FP32, (-1, 3)), GraphTensor("y", FP32, (-1, 2)), GraphTensor("sum_out", FP32, (-1, 1))
GRAPH = GraphSignature((*OWN, X), (Y, KEPT))


def completed(text: str, graph: GraphSignature = GRAPH) -> ModelConfig:
    return complete(parse_text(text, "m"), graph, CompletionDefaults())


def refusal(text: str, graph: GraphSignature = GRAPH) -> str:
    with pytest.raises(InvalidArgument) as refused:
        completed(text, graph)
    return refused.value.message


def block(content: str) -> str:
    return f"max_batch_size: 4 sequence_batching {{ {content} }} "


def test_controls_and_states_are_not_among_the_inputs_and_outputs_of_clients() -> None:
    config = completed(block(CONTROLS + SUM))
    assert [spec.name for spec in config.inputs] == ["x"]
    assert [spec.name for spec in config.outputs] == ["y"]
    assert config.dynamic_batching is None
    assert config.sequence_batching is not None
    assert config.sequence_batching.max_idle_us == 1_000_000


def test_a_state_that_is_declared_as_an_output_is_one() -> None:
    outputs = 'output [ { name: "sum_out" data_type: TYPE_FP32 dims: 1 } ]'
    assert [spec.name for spec in completed(block(CONTROLS + SUM) + outputs).outputs] == ["sum_out"]


def test_a_batch_size_is_chosen_as_for_any_model() -> None:
    config = completed(f"sequence_batching {{ oldest {{ }} {CONTROLS} {SUM} }}")
    assert config.max_batch_size == 4
    assert config.sequence_batching is not None
    assert getattr(config.sequence_batching.strategy, "preferred_batch_sizes", None) == (4,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("max_sequence_idle_microseconds: 18446744073709551615", "must be at most 31622400000000 (a year)"),
        ("control_input { control { int32_false_true: [0, 1] } }", "every control_input needs a name"),
        (CONTROLS + CONTROLS, "more than one tensor for CONTROL_SEQUENCE_START"),
        (SUM + SUM, "'sum_in' must be one of an input"),
        (
            CONTROLS.replace('"END"', '"START"'),
            "'START' must be one of an input, a control_input and a state's input_name, and only once",
        ),
        (
            'control_input { name: "c" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } }',
            "one of the data types TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32, TYPE_STRING; got TYPE_FP32",
        ),
        ('state { input_name: "s" data_type: TYPE_FP32 dims: 1 }', "needs an input_name and an output_name"),
        (SUM + SUM.replace("sum_in", "other"), "'sum_out' is the output_name of two states"),
        (SUM.replace("dims: [ 1 ]", ""), "must specify 'dims'"),
        (SUM.replace("[ 1 ]", "[ 0 ]"), "got 0"),
        ("direct { minimum_slot_utilization: 1.5 }", "between 0 and 1, got 1.5"),
        ("direct { minimum_slot_utilization: nan }", "between 0 and 1, got nan"),
        ("direct { max_queue_delay_microseconds: 3600000001 }", "at most 3600000000 (an hour)"),
        ("oldest { max_candidate_sequences: -1 }", "between 1 and 1000000, got -1"),
        ("oldest { preferred_batch_size: 5 }", "at most max_batch_size 4, got 5"),
        ("oldest { preferred_batch_size: 0 }", "must be positive"),
    ],
)
def test_rules_of_the_block_itself(content: str, said: str) -> None:
    assert said in refusal(block(content)), refusal(block(content))


def initial(content: str, dims: str = "[ 2, -1 ]") -> str:
    return (
        f'state {{ input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: {dims} initial_state {{ {content} }} }}'
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("data_type: TYPE_FP32 dims: [2, 2] zero_data: true", "must specify 'name'"),
        ('name: "n" data_type: TYPE_INT32 dims: [2, 2] zero_data: true', "TYPE_INT32, but the state has TYPE_FP32"),
        ('name: "n" data_type: TYPE_FP32 dims: [2] zero_data: true', "fit the state's, [2,-1]; got [2]"),
        ('name: "n" data_type: TYPE_FP32 dims: [3, 1] zero_data: true', "got [3,1]"),
        ('name: "n" data_type: TYPE_FP32 dims: [2, -1] zero_data: true', "fully specified"),
        ('name: "n" data_type: TYPE_FP32 dims: [2, 4294967296] zero_data: true', "at most 2147483648"),
        ('name: "n" data_type: TYPE_FP32 dims: [2, 1] data_file: "../x"', "data_file '../x' must be a relative name"),
    ],
)
def test_rules_of_initial_states(content: str, said: str) -> None:
    assert said in refusal(block(initial(content))), refusal(block(initial(content)))


def test_what_the_server_fills_is_not_declared_as_an_input() -> None:
    text = block(CONTROLS + SUM) + 'input { name: "END" data_type: TYPE_BOOL dims: 1 }'
    assert "'END' must be one of an input" in refusal(text)


def without(name: str, *instead: GraphTensor) -> GraphSignature:
    return GraphSignature(
        tuple(tensor for tensor in (*OWN, X) if tensor.name != name) + instead,
        tuple(tensor for tensor in (Y, KEPT) if tensor.name != name),
    )


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (without("END"), "control 'END' for CONTROL_SEQUENCE_END is not an input of the model; its inputs are START"),
        (
            without("END", GraphTensor("END", FP32, (-1, 1))),
            "data-type TYPE_FP32, but the configuration says TYPE_BOOL",
        ),
        (without("END", GraphTensor("END", BOOL, (-1, 2))), "has dims [-1,2] but dims [-1,1]"),
        (without("END", GraphTensor("END", BOOL, (-1,))), "has dims [-1] but dims [-1,1]"),
        (without("sum_in"), "state input 'sum_in' is not an input of the model"),
        (without("sum_in", GraphTensor("sum_in", FP32, (-1, 2))), "dims [-1,2], but the configuration says [-1,1]"),
        (without("sum_in", GraphTensor("sum_in", FP32, (1, 1))), "its first dimension must be -1"),
        (without("sum_out"), "state output 'sum_out' is not an output of the model; its outputs are y"),
    ],
)
def test_controls_and_states_are_in_the_graph_like_that(graph: GraphSignature, said: str) -> None:
    assert said in refusal(block(CONTROLS + SUM), graph), refusal(block(CONTROLS + SUM), graph)


@pytest.mark.parametrize("shape", [None, (-1, 1), (-1, -1)])
def test_a_graph_may_leave_sizes_open(shape: tuple[int, ...] | None) -> None:
    completed(block(CONTROLS + SUM), without("END", GraphTensor("END", BOOL, shape)))
    completed(block(CONTROLS + SUM), without("sum_in", GraphTensor("sum_in", FP32, shape)))
