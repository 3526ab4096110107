"""What ``ortolan config`` prints, put into the model's directory, changes nothing: it is whole, and means the same."""

import json
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_sequences import CONTROLS

from ortolan.errors import InvalidArgument
from ortolan.execution.batch_policy import Batching
from ortolan.inference import datatypes
from ortolan.inference.datatypes import FP32, INT64
from ortolan.repository.config_completion import CompletionDefaults, complete
from ortolan.repository.config_file import parse_json, parse_text
from ortolan.repository.config_rendering import to_json, to_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig

defaults = st.builds(
    CompletionDefaults,
    st.sampled_from([0, 1, 4]),
    st.integers(1, 3),
    st.sampled_from([(), (0,), (0, 1)]),
)
sizes = st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=3).map(tuple)


@st.composite
def graphs(draw: st.DrawFn) -> GraphSignature:
    batching = draw(st.booleans())

    def tensor(name: str, optional: bool) -> GraphTensor:
        shape = (-1, *draw(sizes)) if batching else draw(sizes)
        return GraphTensor(name, draw(st.sampled_from(datatypes.DATATYPES)), shape, optional)

    inputs = [tensor(name, draw(st.booleans()) and name == "x2") for name in ("x1", "x2")[: draw(st.integers(1, 2))]]
    outputs = [tensor(name, False) for name in ("y1", "y2")[: draw(st.integers(1, 2))]]
    return GraphSignature(tuple(inputs), tuple(outputs))


sentences = st.lists(
    st.sampled_from(
        [
            "version_policy { latest { num_versions: 3 } }",
            "version_policy { all { } }",
            "version_policy { specific { versions: [ 2, 1 ] } }",
            "instance_group { count: 2 } instance_group { kind: KIND_CPU }",
            "instance_group { kind: KIND_GPU }",
            "instance_group { gpus: 0 rate_limiter { resources { name: 'r' count: 2 } priority: 3 } }",
            "instance_group { kind: KIND_MODEL name: 'g' profile: 'p' }",
            "dynamic_batching { }",
            "dynamic_batching { preferred_batch_size: 2 }",
            "dynamic_batching { preferred_batch_size: 4 }",
            "dynamic_batching { max_queue_delay_microseconds: 5 preserve_ordering: true }",
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "default_queue_policy { max_queue_size: 7 } "
            "priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 9 } } }",
            "default_model_filename: 'a.onnx'",
            "metric_tags { key: 'team' value: 'a\\tb\"c' }",
            "parameters { key: 'oversize_requests' value { string_value: 'split' } }",
            "parameters { key: 'unknown' value { string_value: '' } }",
            "optimization { graph { level: 1 } input_pinned_memory { enable: true } }",
            "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' "
            "parameters { key: 'precision_mode' value: 'FP16' } } } }",
            "response_cache { enable: true }",
            "model_operations { op_library_filename: 'libops.so' }",
            "model_metrics { metric_control { } }",
            "runtime: 'r'",
        ]
    ),
    max_size=5,
    # A field that may be there once is: those of the same first word are alternatives.
    unique_by=lambda sentence: sentence.split()[0],
)


def effective(config: ModelConfig, graph: GraphSignature, chosen: CompletionDefaults) -> ModelConfig:
    """The complete configuration, without what is known of the file it came from."""
    completed = complete(config, graph, chosen)
    return replace(completed, completed=False, warnings=(), declared=b"")


@st.composite
def models(draw: st.DrawFn) -> tuple[ModelConfig, GraphSignature, CompletionDefaults]:
    """A graph, and a configuration that fits it: all of its tensors declared, some, or none."""
    graph, chosen = draw(graphs()), draw(defaults)
    given_size = draw(st.sampled_from(["", "max_batch_size: 1 ", "max_batch_size: 4 "]))
    text = given_size + " ".join(draw(sentences))
    try:
        whole = complete(parse_text(text, "m"), graph, chosen)
    except InvalidArgument:
        assume(False)
    partly = replace(
        parse_text(text, "m"),
        inputs=whole.inputs if draw(st.booleans()) else (),
        outputs=whole.outputs if draw(st.booleans()) else (),
        max_batch_size=draw(st.sampled_from([0, whole.max_batch_size])),
    )
    return partly, graph, chosen


@given(models())
def test_the_effective_configuration_is_its_own(
    model: tuple[ModelConfig, GraphSignature, CompletionDefaults],
) -> None:
    config, graph, chosen = model
    try:
        first = complete(config, graph, chosen)
    except InvalidArgument:
        assume(False)
    text, document = to_text(first), json.dumps(to_json(first))
    for again in (parse_text(text, "m"), parse_json(document, "m")):
        assert effective(again, graph, chosen) == effective(first, graph, chosen)
        second = complete(again, graph, chosen)
        assert not second.completed
        assert to_text(second) == text
        assert Batching.of(second, "") == Batching.of(first, "")
        assert second.signature == first.signature


def test_that_of_a_model_with_sequences_is_its_own_too() -> None:
    controls = {"START": FP32, "READY": datatypes.INT32, "END": datatypes.BOOL, "CORRID": INT64}
    inputs = [GraphTensor("x", FP32, (-1, 4)), GraphTensor("s_in", FP32, (-1, 2))]
    inputs += [GraphTensor(name, datatype, (-1, 1)) for name, datatype in controls.items()]
    outputs = (GraphTensor("y", FP32, (-1, 4)), GraphTensor("s_out", FP32, (-1, 2)))
    graph, chosen = GraphSignature(tuple(inputs), outputs), CompletionDefaults()
    state = 'state { input_name: "s_in" output_name: "s_out" data_type: TYPE_FP32 dims: 2 }'
    for strategy in ("", "direct { minimum_slot_utilization: 0.1 }", "oldest { max_candidate_sequences: 3 }"):
        first = complete(parse_text(f"sequence_batching {{ {strategy} {CONTROLS} {state} }}", "m"), graph, chosen)
        for again in (parse_text(to_text(first), "m"), parse_json(json.dumps(to_json(first)), "m")):
            assert effective(again, graph, chosen) == effective(first, graph, chosen)
