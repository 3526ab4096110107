import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.inference import datatypes
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.config_completion import CompletionDefaults, complete, default_config
from ortolan.repository.config_file import parse_json, parse_text
from ortolan.repository.config_rendering import message_to_json, to_json, to_message, to_text
from ortolan.repository.config_validation import validate
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import (
    Accelerator,
    AllVersions,
    DynamicBatching,
    EnsembleStep,
    InstanceGroup,
    InstanceKind,
    LatestVersions,
    ModelConfig,
    Optimization,
    QueuePolicy,
    SpecificVersions,
    TimeoutAction,
    VersionPolicy,
    WarmupData,
    WarmupInput,
    WarmupSample,
    asks_for_own_batches,
)

GRAPH = GraphSignature(
    inputs=(GraphTensor("x", datatypes.FP32, (-1, 4)), GraphTensor("n", datatypes.INT64, (-1,))),
    outputs=(GraphTensor("y", datatypes.FP32, (-1, 2)),),
)


def plain(config: ModelConfig) -> ModelConfig:
    """The configuration without what a file cannot say."""
    return replace(config, declared=b"", completed=False)


names = st.text(min_size=1, max_size=8)
sizes = st.integers(1, 2**40) | st.just(-1)
file_names = st.sampled_from(["labels.txt", "sub/labels.txt", "ünï"])


@st.composite
def specs(draw: st.DrawFn, output: bool) -> TensorSpec:
    dims = tuple(draw(st.lists(sizes, min_size=1, max_size=3)))
    reshape = draw(st.sampled_from([None, (1, *dims), *([()] if dims == (1,) else [])]))
    datatype = draw(st.sampled_from(datatypes.DATATYPES))
    if output:
        return TensorSpec(draw(names), datatype, dims, False, reshape, draw(st.just("") | file_names))
    return TensorSpec(draw(names), datatype, dims, draw(st.booleans()), reshape)


def tensors(output: bool) -> st.SearchStrategy[tuple[TensorSpec, ...]]:
    return st.lists(specs(output), max_size=3, unique_by=lambda spec: spec.name).map(tuple)


groups = st.builds(
    InstanceGroup,
    st.text(max_size=4),
    st.sampled_from([kind for kind in InstanceKind if kind is not InstanceKind.CPU]),
    st.integers(0, 9),
    st.lists(st.integers(0, 7), max_size=2).map(tuple),
)
policies = st.builds(
    QueuePolicy, st.sampled_from(TimeoutAction), st.integers(0, 10**9), st.booleans(), st.integers(0, 2**32 - 1)
)


@st.composite
def batchings(draw: st.DrawFn, max_batch_size: int) -> DynamicBatching:
    preferred = tuple(draw(st.lists(st.integers(1, max(max_batch_size, 1)), max_size=2)))
    delay = draw(st.integers(0, 1000))
    levels = draw(st.integers(0, 3))
    return DynamicBatching(
        preferred,
        delay,
        False,
        levels,
        min(levels, 1),
        draw(policies),
        {level: draw(policies) for level in range(1, levels + 1) if draw(st.booleans())},
        asks_for_own_batches(preferred, delay, max_batch_size),
    )


accelerators = st.lists(
    st.builds(Accelerator, names, st.dictionaries(names, st.text(max_size=4), max_size=2)), max_size=2
)
version_policies: st.SearchStrategy[VersionPolicy] = st.sampled_from(
    [LatestVersions(1), LatestVersions(7), AllVersions(), SpecificVersions((3, 1))]
)
warmup_inputs = st.builds(
    lambda name, datatype, dims, data: WarmupInput(
        TensorSpec(name, datatype, tuple(dims)), data, "data" if data is WarmupData.FILE else ""
    ),
    names,
    st.sampled_from(datatypes.DATATYPES),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from(WarmupData),
)
samples = st.builds(
    lambda name, count, inputs: WarmupSample(name, 1, count, tuple(sorted(inputs, key=lambda each: each.spec.name))),
    st.text(max_size=4),
    st.integers(1, 9),
    st.lists(warmup_inputs, min_size=1, max_size=2, unique_by=lambda each: each.spec.name),
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    max_batch_size = draw(st.integers(0, 64))
    return ModelConfig(
        name=draw(names),
        platform=draw(st.sampled_from(["", "onnxruntime_onnx"])),
        backend=draw(st.sampled_from(["", "onnxruntime"])),
        max_batch_size=max_batch_size,
        inputs=draw(tensors(output=False)),
        outputs=draw(tensors(output=True)),
        version_policy=draw(version_policies),
        instance_groups=tuple(draw(st.lists(groups, max_size=2))),
        dynamic_batching=draw(st.none() | batchings(max_batch_size)),
        default_model_filename=draw(st.sampled_from(["", "model.onnx"])),
        metric_tags=draw(st.dictionaries(st.just("team"), st.text(max_size=4))),
        parameters=draw(st.dictionaries(names, st.text(max_size=4), max_size=2)),
        optimization=Optimization(
            draw(st.integers(-1, 2)), tuple(draw(accelerators)), tuple(draw(accelerators)), draw(st.booleans())
        ),
        warmup=tuple(draw(st.lists(samples, max_size=2))),
        op_library_filenames=tuple(draw(st.lists(file_names, max_size=1))),
    )


@given(configs())
def test_what_is_rendered_reads_back_the_same(config: ModelConfig) -> None:
    validate(config)
    assert plain(parse_text(to_text(config), config.name)) == config
    assert plain(parse_text(to_text(plain(parse_text(to_text(config), config.name))), config.name)) == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max_batch_size: 8",
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 }",
        "max_batch_size: 1",
        "instance_group { count: 3 kind: KIND_CPU } instance_group { }",
        "optimization { eager_batching: true } response_cache { enable: true }",
        'model_warmup { inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 zero_data: true } }'
        '               inputs { key: "n" value { data_type: TYPE_INT64 dims: 1 zero_data: true } } }',
    ],
)
def test_a_completed_configuration_reads_back_the_same(text: str) -> None:
    config = complete(parse_text(text, "m"), GRAPH, CompletionDefaults())
    again = parse_text(to_text(config), "m")
    assert plain(again) == plain(config)
    # Completing it again changes nothing, so that a shown configuration can be sent back as an override.
    assert plain(complete(again, GRAPH, CompletionDefaults())) == plain(config)
    assert plain(parse_json(dumped(to_json(config)), "m")) == plain(config)


def dumped(document: dict[str, Any]) -> str:
    return json.dumps(document)


def test_fields_that_are_only_passed_on_are_shown_back() -> None:
    config = parse_text(
        """input { name: "b" data_type: TYPE_FP32 dims: [1, 2, 3] format: FORMAT_NCHW }
        input { name: "a" data_type: TYPE_FP32 dims: 1 }
        output { name: "y" data_type: TYPE_FP32 dims: 1 is_shape_tensor: true }
        instance_group { host_policy: "p" } response_cache { enable: true }
        optimization { graph { level: 1 } eager_batching: true }""",
        "m",
    )
    shown = to_json(replace(config, inputs=config.inputs[::-1]))
    assert [(tensor["name"], tensor["format"]) for tensor in shown["input"]] == [
        ("a", "FORMAT_NONE"),
        ("b", "FORMAT_NCHW"),
    ]
    assert shown["output"][0]["is_shape_tensor"] is True
    assert shown["instance_group"][0]["host_policy"] == "p"
    assert shown["response_cache"] == {"enable": True}
    assert shown["optimization"]["eager_batching"] is True
    assert shown["optimization"]["graph"] == {"level": 1}


def test_completion_is_shown_over_what_the_file_has() -> None:
    shown = to_json(complete(parse_text("instance_group { count: 2 }", "m"), GRAPH, CompletionDefaults()))
    assert shown["instance_group"][0]["name"] == "m_0"
    assert shown["instance_group"][0]["kind"] == "KIND_CPU"


def test_json_is_as_triton_prints_it() -> None:
    shown = to_json(complete(default_config("m"), GRAPH, CompletionDefaults()))
    assert shown == {
        "name": "m",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 4,
        "input": [shown_input("x", "TYPE_FP32", [4]), shown_input("n", "TYPE_INT64", [1]) | {"reshape": {"shape": []}}],
        "output": [
            {
                "name": "y",
                "data_type": "TYPE_FP32",
                "dims": [2],
                "label_filename": "",
                "is_shape_tensor": False,
                "is_non_linear_format_io": False,
            }
        ],
        "batch_input": [],
        "batch_output": [],
        "dynamic_batching": {
            "preferred_batch_size": [4],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "priority_queue_policy": {},
        },
        "optimization": {
            "priority": "PRIORITY_DEFAULT",
            "gather_kernel_buffer_threshold": 0,
            "eager_batching": False,
        },
        "instance_group": [
            {
                "name": "m",
                "kind": "KIND_CPU",
                "count": 1,
                "gpus": [],
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": "model.onnx",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }


def shown_input(name: str, data_type: str, dims: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "data_type": data_type,
        "format": "FORMAT_NONE",
        "dims": dims,
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }


def test_64_bit_numbers_are_numbers_and_map_keys_are_strings() -> None:
    config = parse_text(
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 max_queue_delay_microseconds: 3600000000 "
        "priority_queue_policy { key: 2 value { } } }",
        "m",
    )
    shown = to_json(config)["dynamic_batching"]
    assert shown["max_queue_delay_microseconds"] == 3_600_000_000
    assert list(shown["priority_queue_policy"]) == ["2"]


def test_single_precision_numbers_are_shown_short() -> None:
    message = to_message(default_config("m"))
    message.sequence_batching.direct.minimum_slot_utilization = 0.1
    assert message_to_json(message)["sequence_batching"]["direct"]["minimum_slot_utilization"] == 0.1


def test_an_ensemble_reads_back_the_same_and_shows_its_steps() -> None:
    step = EnsembleStep("a", 2, {"x": "in"}, {"y": "out"})
    spec = TensorSpec("in", datatypes.FP32, (4,))
    config = ModelConfig(
        "e",
        platform="ensemble",
        inputs=(spec,),
        outputs=(replace(spec, name="out"),),
        ensemble_steps=(step,),
        response_cache=True,
    )
    assert plain(parse_text(to_text(config), "e")) == config
    shown = to_json(config)
    assert shown["ensemble_scheduling"]["step"] == [
        {
            "model_name": "a",
            "model_version": 2,
            "input_map": {"x": "in"},
            "output_map": {"y": "out"},
            "model_namespace": "",
        }
    ]
    assert shown["response_cache"] == {"enable": True}
    assert "optimization" not in shown
