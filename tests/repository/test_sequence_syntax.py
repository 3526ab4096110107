import pytest
from onnx_sequences import CONTROLS

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BOOL, BYTES, FP32, INT32, INT64
from ortolan.repository.config_file import parse_text
from ortolan.repository.config_rendering import to_json, to_text
from ortolan.repository.sequence_config import (
    ControlKind,
    DirectStrategy,
    InitialState,
    OldestStrategy,
    SequenceBatching,
    SequenceControl,
    SequenceState,
    with_defaults,
)

STATE = """
  state [
    {
      input_name: "a_in" output_name: "a_out" data_type: TYPE_FP32 dims: [ 2, -1 ]
      initial_state: { name: "first" data_type: TYPE_FP32 dims: [ 2, 3 ] data_file: "a" }
    },
    {
      input_name: "b_in" output_name: "b_out" data_type: TYPE_STRING dims: [ 1 ] use_same_buffer_for_input_output: true
      initial_state: { name: "empty" data_type: TYPE_STRING dims: [ 1 ] zero_data: true }
    }
  ]"""


def parsed(content: str) -> SequenceBatching:
    batching = parse_text(f"max_batch_size: 8 sequence_batching {{ {content} }}", "m").sequence_batching
    assert batching is not None
    return batching


def refusal(content: str) -> str:
    with pytest.raises(InvalidArgument) as refused:
        parsed(content)
    return refused.value.message


def test_a_block_says_everything_in_our_words() -> None:
    strategy = "direct { max_queue_delay_microseconds: 7 minimum_slot_utilization: 0.5 }"
    assert parsed(f"max_sequence_idle_microseconds: 5000000 {strategy} {CONTROLS} {STATE}") == SequenceBatching(
        max_idle_us=5_000_000,
        controls=(
            SequenceControl("START", ControlKind.START, FP32, (0, 1)),
            SequenceControl("READY", ControlKind.READY, INT32, (0, 1)),
            SequenceControl("END", ControlKind.END, BOOL, (False, True)),
            SequenceControl("CORRID", ControlKind.CORRID, INT64),
        ),
        states=(
            SequenceState("a_in", "a_out", FP32, (2, -1), InitialState("first", FP32, (2, 3), "a")),
            SequenceState("b_in", "b_out", BYTES, (1,), InitialState("empty", BYTES, (1,)), same_buffer=True),
        ),
        strategy=DirectStrategy(7, 0.5),
    )


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("", DirectStrategy()),
        ("direct { }", DirectStrategy()),
        ("oldest { }", OldestStrategy()),
        (
            "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 9 "
            "preserve_ordering: true }",
            OldestStrategy(4, (2, 4), 9, True),
        ),
    ],
)
def test_the_strategy_is_direct_unless_it_is_oldest(text: str, strategy: DirectStrategy | OldestStrategy) -> None:
    assert parsed(text).strategy == strategy


@pytest.mark.parametrize(
    "strategy", ["direct { minimum_slot_utilization: 0.25 }", "oldest { preferred_batch_size: 2 }"]
)
def test_what_is_rendered_is_read_back(strategy: str) -> None:
    config = parse_text(f"max_batch_size: 8 sequence_batching {{ {strategy} {CONTROLS} {STATE} }}", "m")
    assert parse_text(to_text(config), "m").sequence_batching == config.sequence_batching


def test_the_json_shows_all_defaults() -> None:
    shown = to_json(parse_text(f"sequence_batching {{ oldest {{ }} {CONTROLS} }}", "m"))["sequence_batching"]
    assert {key: value for key, value in shown.items() if key != "control_input"} == {
        "max_sequence_idle_microseconds": 0,
        "oldest": {
            "max_candidate_sequences": 0,
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
        },
        "state": [],
        "iterative_sequence": False,
    }
    assert shown["control_input"][0] == {
        "name": "START",
        "control": [
            {
                "kind": "CONTROL_SEQUENCE_START",
                "int32_false_true": [],
                "fp32_false_true": [0.0, 1.0],
                "bool_false_true": [],
                "data_type": "TYPE_INVALID",
            }
        ],
    }


def control(content: str) -> str:
    return f'control_input {{ name: "c" control {{ {content} }} }}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('control_input { name: "c" }', "exactly one control, got 0"),
        ('control_input { name: "c" control { } control { } }', "exactly one control, got 2"),
        (control("kind: 9"), "control kind 9 is unknown: write one of CONTROL_SEQUENCE_START"),
        (control("kind: CONTROL_SEQUENCE_END"), "must specify one of int32_false_true"),
        (control("int32_false_true: 1"), "exactly two values"),
        (control("int32_false_true: [0, 1, 2]"), "exactly two values"),
        (control("int32_false_true: [0, 1] bool_false_true: [false, true]"), "must specify one of"),
        (control("int32_false_true: [0, 1] data_type: TYPE_INT32"), "has no data_type"),
        (control("kind: CONTROL_SEQUENCE_CORRID"), "must specify 'data_type'"),
        (control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 int32_false_true: [0, 1]"), "no *_false_true"),
        ('state { input_name: "s" }', "state 's' must specify 'data_type'"),
        ('state { input_name: "s" data_type: TYPE_FP32 initial_state { } }', "zero_data: true, or a data_file"),
        ("state { data_type: TYPE_FP32 initial_state { zero_data: false } }", "zero_data: true, or a data_file"),
        ('state { data_type: TYPE_FP32 initial_state { data_file: "" } }', "data_file must name"),
        ("state { data_type: TYPE_FP32 initial_state { zero_data: true } }", "initial_state must specify 'data_type'"),
        ("state { data_type: TYPE_FP32 initial_state { } initial_state { } }", "at most one initial_state, got 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(content: str, said: str) -> None:
    assert said in refusal(content), refusal(content)


@pytest.mark.parametrize(
    ("batching", "max_batch_size", "completed"),
    [
        (SequenceBatching(), 4, SequenceBatching(1_000_000)),
        (SequenceBatching(7), 4, SequenceBatching(7)),
        (SequenceBatching(7, strategy=OldestStrategy()), 4, SequenceBatching(7, strategy=OldestStrategy(0, (4,)))),
        (SequenceBatching(7, strategy=OldestStrategy()), 0, SequenceBatching(7, strategy=OldestStrategy())),
        (
            SequenceBatching(7, strategy=OldestStrategy(2, (2,))),
            4,
            SequenceBatching(7, strategy=OldestStrategy(2, (2,))),
        ),
    ],
)
def test_what_the_file_leaves_out_is_completed(
    batching: SequenceBatching, max_batch_size: int, completed: SequenceBatching
) -> None:
    assert with_defaults(batching, max_batch_size, "m") == completed


def test_preferred_sizes_need_a_batch_dimension() -> None:
    with pytest.raises(InvalidArgument, match="needs a batch dimension"):
        with_defaults(SequenceBatching(strategy=OldestStrategy(0, (2,))), 0, "m")
