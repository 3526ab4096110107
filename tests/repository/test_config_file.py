import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.config_file import parse_json, parse_text, read
from ortolan.repository.config_rendering import to_text
from ortolan.repository.model_config import (
    NEWEST_VERSION,
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
)

INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: 4 }'


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgument) as refused:
        parse_text(text, "m")
    return refused.value.message


def json_refusal(text: str) -> str:
    with pytest.raises(InvalidArgument) as refused:
        parse_json(text, "m")
    return refused.value.message


FULL = """
# A comment; with separators
name: "m", platform: "onnxruntime_onnx";
max_batch_size: 0x10
version_policy: { specific { versions: [ 1, 3 ] } }
input [
  {
    name: 'x'
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, -1, -1 ]
  },
  < name: "y" data_type: 13 dims: 1 reshape < shape: [ ] > >
]
output { name: "out" "put" data_type: TYPE_INT64 dims: [ 10 ] label_filename: "labels.txt" }
instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: 1 gpus: [ 0, 1 ] name: "g" } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 2
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 500 allow_timeout_override: true }
  priority_queue_policy { key: 1 value: { max_queue_size: 7 } }
}
default_model_filename: "digits.onnx"
metric_tags { key: "team" value: "vision" }
parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
parameters: { key: "execution_mode", value { string_value: "1" } }
optimization {
  graph { level: 1 }
  execution_accelerators {
    gpu_execution_accelerator : [ { name : "tensorrt" parameters { key: "precision_mode" value: "FP16" } } ]
    cpu_execution_accelerator { name: "openvino" }
  }
}
model_warmup [ {
  name: "w" batch_size: 2
  inputs { key: "y" value: { data_type: TYPE_STRING dims: 1 input_data_file: "words" } }
  inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 3, 8, 8 ] random_data: true } }
} ]
model_operations { op_library_filename: [ "ops.so" ] }
"""


def test_a_whole_file_is_read_in_our_words() -> None:
    config = parse_text(FULL, "m")
    assert config.declared
    assert config == ModelConfig(
        name="m",
        platform="onnxruntime_onnx",
        max_batch_size=16,
        inputs=(
            TensorSpec("x", datatypes.FP32, (3, -1, -1)),
            TensorSpec("y", datatypes.BYTES, (1,), reshape=()),
        ),
        outputs=(TensorSpec("output", datatypes.INT64, (10,), label_filename="labels.txt"),),
        version_policy=SpecificVersions((1, 3)),
        instance_groups=(
            InstanceGroup("", InstanceKind.CPU, 2),
            InstanceGroup("g", InstanceKind.GPU, 1, (0, 1)),
        ),
        dynamic_batching=DynamicBatching(
            preferred_batch_sizes=(4, 8),
            max_queue_delay_us=100,
            priority_levels=2,
            default_priority_level=2,
            default_queue_policy=QueuePolicy(TimeoutAction.DELAY, 500, True),
            priority_queue_policies={1: QueuePolicy(max_queue_size=7)},
            explicit=True,
        ),
        default_model_filename="digits.onnx",
        metric_tags={"team": "vision"},
        parameters={"execution_mode": "1", "intra_op_thread_count": "4"},
        optimization=Optimization(
            1, (Accelerator("tensorrt", {"precision_mode": "FP16"}),), (Accelerator("openvino"),)
        ),
        warmup=(
            WarmupSample(
                "w",
                2,
                1,
                (
                    WarmupInput(TensorSpec("x", datatypes.FP32, (3, 8, 8)), WarmupData.RANDOM),
                    WarmupInput(TensorSpec("y", datatypes.BYTES, (1,)), WarmupData.FILE, "words"),
                ),
            ),
        ),
        op_library_filenames=("ops.so",),
        declared=config.declared,
    )


@pytest.mark.parametrize(
    "text",
    [
        'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]',
        'input: [ { name: "x", data_type: TYPE_FP32, dims: [ 4 ] } ]',
        "input { name: 'x'; data_type: TYPE_FP32; dims: 4; }",
        'input < name: "" "x" data_type: 11 dims: 4 >',
        'input: < name: "\\x78" data_type: 0xB dims: 04 >',
        '# a comment\r\ninput {\r\n  name: "x" # another\r\n  data_type: TYPE_FP32\r\n dims: [4]\r\n}\r\n',
        '\ufeffinput{name:"x"data_type:TYPE_FP32 dims:4}',
    ],
)
def test_every_dialect_of_the_text_format_says_the_same(text: str) -> None:
    assert parse_text(text, "m").inputs == (TensorSpec("x", datatypes.FP32, (4,)),)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", LatestVersions(1)),
        ("version_policy { }", LatestVersions(1)),
        ("version_policy { latest { } }", LatestVersions(1)),  # absent and 0 cannot be told apart
        ("version_policy { latest { num_versions: 3 } }", LatestVersions(3)),
        ("version_policy: { all { } }", AllVersions()),
        ("version_policy: { specific: { versions: [2, 5] } }", SpecificVersions((2, 5))),
    ],
)
def test_version_policies_are_read(text: str, policy: VersionPolicy) -> None:
    assert parse_text(text, "m").version_policy == policy


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        ("max_batch_size: 8 dynamic_batching { }", False),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: 8 }", False),  # what Triton prints for nothing
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 8 ] }", True),
        ("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1 }", True),
        ("dynamic_batching { preferred_batch_size: 4 }", True),
    ],
)
def test_only_sizes_and_delays_of_its_own_are_explicit(text: str, explicit: bool) -> None:
    batching = parse_text(text, "m").dynamic_batching
    assert batching is not None
    assert batching.explicit is explicit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name: "m"\n\nmax_batchsize: 3', 'unknown field "max_batchsize" at line 3; did you mean "max_batch_size"?'),
        ('input [\n {\n  nme: "x" } ]', 'unknown field "nme" at line 3; did you mean "name"?'),
        ("dims: 3", "known are backend,"),  # nothing is near, so all are shown
        ("input { data_type: TYPE_FP33 }", 'unknown value "TYPE_FP33" at line 1; did you mean "TYPE_FP32"?'),
        ("input { data_type: FP16 }", 'did you mean "TYPE_FP16"?'),
        ("input { data_type: TYPE_BYTES }", 'did you mean "TYPE_STRING"?'),  # the protocol's word
        ("\ninstance_group { kind: KIND_CUP }", 'unknown value "KIND_CUP" at line 2; did you mean "KIND_CPU"?'),
        ("max_batch_size: 1\nmax_batch_size: 2", 'the field "max_batch_size" appears twice at line 2'),
        ("version_policy { all {} latest {} }", 'the fields "all" and "latest" exclude each other at line 1'),
        ("max_batch_size: 2147483648", "Value out of range: 2147483648 at line 1"),
        ("dynamic_batching { max_queue_delay_microseconds: -1 }", "-1 at line 1, in max_queue_delay_microseconds"),
        ("dynamic_batching {\n preferred_batch_size: [ 1, # one\n x ] }", "x at line 3, in preferred_batch_size"),
        ("dynamic_batching { preserve_ordering: maybe }", 'or "false" at line 1, in preserve_ordering'),
        ("max_batch_size: " + "9" * 5000, "Couldn't parse integer"),
        ('max_batch_size: "4"', 'Couldn\'t parse integer: "4" at line 1'),
        ('\nname: "m', "at line 2"),
        ("input {", "at line 1"),
        ('name: "\\377"', "at line 1"),
        ('max_batch_size: "Message type \\"foo\\" has no field named \\"x\\""', "Couldn't parse integer"),
        ('max_batch_size: "Enum type \\"foo\\" has no value named x"', "Couldn't parse integer"),
        ("input { data_type: 77 }", "unknown data_type 77"),
        ('input { name: "x" format: 9 data_type: TYPE_FP32 dims: [1, 1, 1] }', "unknown format 9"),
        ("instance_group { kind: 9 }", "instance_group.kind 9 is unknown: write one of KIND_AUTO, KIND_GPU"),
        ("dynamic_batching { default_queue_policy { timeout_action: 5 } }", "timeout_action 5 is unknown"),
    ],
)
def test_what_is_misspelt_is_named_with_its_line(text: str, said: str) -> None:
    assert said in refusal(text), refusal(text)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("TYPE_FLOAT", "TYPE_FP32"),
        ("TYPE_FLOAT32", "TYPE_FP32"),
        ("type_fp32", "TYPE_FP32"),
        ("TYPE_DOUBLE", "TYPE_FP64"),
        ("TYPE_LONG", "TYPE_INT64"),
        ("TYPE_HALF", "TYPE_FP16"),
        ("FLOAT16", "TYPE_FP16"),
        ("TYPE_INT", "TYPE_INT32"),
        ("TYPE_BYTES", "TYPE_STRING"),
        ("STR", "TYPE_STRING"),
        ("string", "TYPE_STRING"),
        ("BFLOAT16", "TYPE_BF16"),
        ("TYPE_UCHAR", "TYPE_UINT8"),
        ("BYTE", "TYPE_UINT8"),
        ("TYPE_BOOLEAN", "TYPE_BOOL"),
    ],
)
def test_a_datatype_by_another_name_is_understood(word: str, meant: str) -> None:
    assert refusal(f"input {{ data_type: {word} }}").endswith(f'; did you mean "{meant}"?')
    assert json_refusal(json.dumps({"input": [{"data_type": word}]})).endswith(f'; did you mean "{meant}"?')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"max_batchsize": 3}', 'unknown field "max_batchsize" at the top; did you mean "max_batch_size"?'),
        ('{"input": [{"nme": "x"}]}', 'unknown field "nme" at input[0]; did you mean "name"?'),
        ('{"input": [{"data_type": "FP32"}]}', 'unknown value "FP32" at input[0].data_type; did you mean "TYPE_FP32"?'),
        ('{"input": {"name": "x"}}', "expected a list at input, got an object"),
        ('{"input": [3]}', "expected an object at input[0], got a number"),
        ('{"input": [null]}', "expected an object at input[0], got null"),
        ('{"parameters": {"k": "v"}}', "expected an object at parameters[k], got a string"),
        ('{"parameters": ["k"]}', "expected an object at parameters, got a list"),
        ('{"name": ["m"]}', "expected a single value at name, got a list"),
        ('{"input": [{"data_type": true}]}', "expected one of TYPE_INVALID"),
        ('{"max_batch_size": 2147483648}', "out of range"),
        ('{"max_batch_size": true}', "max_batch_size"),
        ('{"max_batch_size": 1.5}', "max_batch_size"),
        ('{"name": "m", "name": "m"}', 'the key "name" appears twice'),
        ('{"max_batch_size": 1, "maxBatchSize": 2}', 'the field "max_batch_size" appears twice'),
        ('{"version_policy": {"all": {}, "latest": {}}}', "oneof"),
        ("[]", "expected an object at the top, got a list"),
        ("", "line 1"),
        ("{", "line 1"),
        ('{"name": "\\ud800"}', "surrogate"),
        ('{"max_batch_size": ' + "9" * 5000 + "}", "digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"input":' * 250 + "1" + "}" * 250, "expected a list at input"),
    ],
)
def test_what_is_wrong_in_json_is_named_with_its_path(text: str, said: str) -> None:
    assert said in json_refusal(text), json_refusal(text)


def test_json_and_text_say_the_same() -> None:
    text = f"max_batch_size: 4 {INPUT} dynamic_batching {{ max_queue_delay_microseconds: 5 }}"
    document = """{"max_batch_size": 4, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}],
                   "dynamicBatching": {"max_queue_delay_microseconds": 5}, "output": null}"""
    assert parse_json(document, "m") == parse_text(text, "m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name: "n"', "unexpected directory name 'm' for model 'n', directory name must equal model name"),
        ("max_batch_size: -1", "max_batch_size must be 0 or more, got -1"),
        ('input { name: "x" dims: 4 }', "input 'x' must specify 'data_type'"),
        ('input { name: "x" data_type: TYPE_FP32 }', "input 'x': must specify 'dims'"),
        ("input { data_type: TYPE_FP32 dims: 4 }", "every input must specify 'name'"),
        ('output { name: "x" data_type: TYPE_FP32 dims: [ 4, 0 ] }', "output 'x': dims must be positive, or -1"),
        ('output { name: "x" data_type: TYPE_FP32 dims: -2 }', "got -2"),
        (INPUT + INPUT, "input 'x' is declared twice"),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 4 format: FORMAT_NHWC }',
            "FORMAT_NHWC and FORMAT_NCHW require 3 dims, got 1",
        ),
        ('input { name: "x" data_type: TYPE_FP32 dims: 4 reshape { shape: [2, 3] } }', "same number of elements"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 4 reshape { shape: [ ] } }', "same number of elements"),
        ('input { name: "x" data_type: TYPE_FP32 dims: [2, -1] reshape { shape: [-1, 2] } }', "matching places"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 4 reshape { shape: [4, 0] } }', "reshape must be positive"),
        ("version_policy { specific { } }", "must list at least one version"),
        ("version_policy { specific { versions: [1, 0] } }", "must list positive versions, got 0"),
        ("instance_group { count: 1000000 }", "instance_group[0].count must be between 1 and 4096, got 1000000"),
        ("instance_group { count: -1 }", "must be between 1 and 4096, got -1"),
        ("instance_group { count: 4096 } instance_group { }", "asks for 4097 instances"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "KIND_CPU and lists GPUs [0]"),
        ("instance_group { kind: KIND_GPU gpus: -1 }", "gpus must be 0 or more, got -1"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [4, 8] }", "at most max_batch_size 4, got 8"),
        ("dynamic_batching { preferred_batch_size: 0 }", "must be positive, got 0"),
        ("dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }", "(an hour)"),
        ("dynamic_batching { default_queue_policy { default_timeout_microseconds: 9000000000000000000 } }", "(a year)"),
        ("dynamic_batching { priority_levels: 2 }", "default_priority_level must be between 1 and priority_levels 2"),
        ("dynamic_batching { priority_levels: 2 default_priority_level: 3 }", "got 3"),
        ("dynamic_batching { priority_levels: 9999999 default_priority_level: 1 }", "priority_levels must be at most"),
        ("dynamic_batching { priority_queue_policy { key: 1 value { } } }", "level 1, which is not in 1..0"),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
            "preserve_ordering cannot be kept with 2 priority_levels",
        ),
        (
            "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY } }",
            "preserve_ordering cannot be kept with timeout_action DELAY",
        ),
        ('default_model_filename: "../other/model.onnx"', "default_model_filename '../other/model.onnx' must be"),
        ('default_model_filename: "/etc/passwd"', "must be a relative name"),
        ('default_model_filename: "a\\000b"', "must be a relative name"),
        (
            'output { name: "x" data_type: TYPE_FP32 dims: 4 label_filename: "../x" }',
            "label_filename '../x' must be a relative name",
        ),
        ('output { name: "x" data_type: TYPE_FP32 dims: 4 label_filename: "/x" }', "label_filename '/x'"),
        ('metric_tags { key: "a-b" value: "c" }', "'a-b' must consist of letters, digits and underscores"),
        ('parameters { key: "" value { string_value: "x" } }', "every key"),
        ("optimization { execution_accelerators { gpu_execution_accelerator { } } }", "must specify 'name'"),
        ('model_operations { op_library_filename: "" }', "op_library_filename"),
    ],
)
def test_rules_that_need_no_graph_are_checked(text: str, said: str) -> None:
    assert said in refusal(text), refusal(text)


def warmup(data: str, sample: str = "") -> str:
    return f'model_warmup {{ name: "w" {sample} inputs {{ key: "x" value {{ data_type: TYPE_FP32 {data} }} }} }}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model_warmup { name: "w" }', "at least one input"),
        (warmup("dims: 4"), "must specify zero_data, random_data or input_data_file"),
        (warmup("dims: 4 zero_data: true random_data: true"), "exclude each other"),
        (warmup("zero_data: true"), "must specify 'dims'"),
        (warmup("dims: -1 zero_data: true"), "dims must be fully specified and positive, got -1"),
        (warmup("dims: 0 zero_data: true"), "got 0"),
        (warmup("dims: [1000000, 1000000] zero_data: true"), "1000000000000 elements"),
        (warmup("dims: 4 zero_data: true", "count: 4294967295"), "at most 100000"),
        (warmup("dims: 4 zero_data: true", "batch_size: 9") + "max_batch_size: 8", "at most max_batch_size 8, got 9"),
        (warmup('dims: 4 input_data_file: "../x"'), "input_data_file '../x'"),
        (warmup('dims: 4 input_data_file: ""'), "input_data_file"),
        ('model_warmup { inputs { key: "x" value { dims: 4 zero_data: true } } }', "must specify 'data_type'"),
    ],
)
def test_warmup_samples_are_checked(text: str, said: str) -> None:
    assert said in refusal(text), refusal(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('platform: "ensemble"', "ensemble_scheduling"),
        ("ensemble_scheduling { }", "must have at least one step"),
        ('ensemble_scheduling { } platform: "onnxruntime_onnx"', "a model whose platform is not ensemble"),
        ('ensemble_scheduling { } backend: "onnxruntime"', "backend must not be set for an ensemble"),
        ("ensemble_scheduling { } instance_group { }", "instance_group must not be specified for an ensemble"),
        ("ensemble_scheduling { } optimization { }", "optimization must not be specified for an ensemble"),
        ("ensemble_scheduling { } model_warmup { }", "model_warmup must not be specified for an ensemble"),
        ('ensemble_scheduling { step { model_name: "a" model_namespace: "n" } }', "model_namespace 'n'"),
        ("sequence_batching { } response_cache { enable: true }", "response_cache cannot be enabled with"),
        ("sequence_batching { iterative_sequence: true }", "sequence_batching.iterative_sequence"),
        ('sequence_batching { state { input_name: "s" use_growable_memory: true } }', "use_growable_memory"),
        ('platform: "tensorrt_plan"', "platform 'tensorrt_plan'"),
        ('backend: "python"', "backend 'python'"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        ("batch_input { }", "batch_input"),
        ("batch_output { }", "batch_output"),
        ('model_repository_agents { agents { name: "checksum" } }', "repository agent 'checksum'"),
    ],
)
def test_what_this_server_cannot_do_is_refused_by_name(text: str, named: str) -> None:
    assert named in refusal(text), refusal(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('instance_group { host_policy: "p" }', "host_policy"),
        ("instance_group { passive: true }", "passive"),
        ("instance_group { secondary_devices { device_id: 1 } }", "secondary_devices"),
        ('instance_group { profile: "0" }', "profile"),
        ('backend: "onnxruntime" runtime: "any"', "runtime 'any'"),
        ("optimization { graph { level: 3 } }", "optimization.graph.level 3 is not one of -1, 0, 1, 2"),
        ("optimization { cuda { graphs: true busy_wait_events: true } }", "optimization.cuda.busy_wait_events"),
        ("optimization { priority: PRIORITY_MAX }", "optimization.priority"),
        ("optimization { gather_kernel_buffer_threshold: 1 }", "gather_kernel_buffer_threshold"),
        ("optimization { eager_batching: true }", "eager_batching"),
        ("optimization { input_pinned_memory { enable: true } }", "input_pinned_memory"),
        ("optimization { output_pinned_memory { enable: true } }", "output_pinned_memory"),
        ("model_metrics { metric_control { } }", "model_metrics"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 4 is_shape_tensor: true }', "is_shape_tensor"),
    ],
)
def test_what_is_not_done_is_warned_of_once(text: str, named: str) -> None:
    (warning,) = parse_text(text, "m").warnings
    assert named in warning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model_transaction_policy { }",
        "response_cache { enable: false }",
        "response_cache { enable: true }",
        "optimization { input_pinned_memory { enable: false } graph { level: -1 } cuda { graphs: true } }",
        "instance_group { kind: KIND_MODEL }",
        'input { name: "x" data_type: TYPE_FP32 dims: [2, -1, 3] reshape { shape: [1, 2, -1, 3] } optional: true }',
    ],
)
def test_what_is_harmless_says_nothing(text: str) -> None:
    assert parse_text(text, "m").warnings == ()


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"\xef\xbb\xbfmax_batch_size: 4")
    assert read(path, "m").max_batch_size == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: 'm'\n# caf\xe9", "not UTF-8 text: byte 0xe9 at line 2"),
        (b"\xff\xfen\x00a\x00", "not UTF-8 text: byte 0xff at line 1"),  # what PowerShell writes
        (b"#" * (4 * 1024 * 1024 + 1), "is larger than 4194304 bytes"),
        (None, "config.pbtxt of model 'm' is not there"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained_without_its_path(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "config.pbtxt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgument) as refused:
        read(path, "m")
    assert said in refused.value.message
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# mine\nhunter2", "cannot be read as a configuration at line 2; its text is not shown, because it lies"),
        (b"# mine\nhunter2: 3", "cannot be read as a configuration at line 2; its text is not shown"),
        (b"name: 'hunter2'", "cannot be read as a configuration; its text is not shown"),
        (b"backend: 'hunter2'", "cannot be read as a configuration; its text is not shown"),
        (b"\n\xf0 hunter2", "cannot be read as a configuration at line 2; its text is not shown"),
    ],
)
def test_a_file_from_outside_is_read_and_nothing_of_it_told(tmp_path: Path, content: bytes, said: str) -> None:
    model, shared = tmp_path / "repository" / "m", tmp_path / "repository" / "shared"
    model.mkdir(parents=True)
    for place, roots in ((tmp_path / "outside", (model, model.parent)), (shared, (model,))):
        place.write_bytes(content)
        (model / "config.pbtxt").unlink(missing_ok=True)
        (model / "config.pbtxt").symlink_to(place)
        with pytest.raises(InvalidArgument) as refused:
            read(model / "config.pbtxt", "m", roots)
        assert said in refused.value.message
        assert "hunter2" not in refused.value.message
        assert refused.value.__cause__ is None
    with pytest.raises(InvalidArgument) as refused:
        read(model / "config.pbtxt", "m", (model, model.parent))
    assert "not shown" not in refused.value.message
    shared.write_bytes(b"max_batch_size: 4")
    assert read(model / "config.pbtxt", "m", (model,)).max_batch_size == 4


WORDS = st.sampled_from(
    [*"{}[]<>:;,#\"'\n\\-.", " ", "input", "name", "dims", "data_type", "max_batch_size", "dynamic_batching", "value",
     "key", "parameters", "version_policy", "latest", "instance_group", "kind", "TYPE_FP32", "KIND_CPU", '"x"', "1",
     "-1", "99999999999999999999", "1e999", "nan", "true", "reshape", "shape", "model_warmup", "inputs", "\0", "é"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(WORDS, max_size=30).map(" ".join), st.lists(WORDS, max_size=30).map("".join)))
def test_no_text_raises_anything_but_invalid_argument(text: str) -> None:
    for parse in (parse_text, parse_json):
        with suppress(InvalidArgument):
            config = parse(text, "m")
            assert parse_text(to_text(config), "m").inputs == config.inputs


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["input", "output", "name", "dims", "data_type", "dynamic_batching", "parameters",
                             "reshape", "shape", "version_policy", "all", "latest", "optimization", "instance_group",
                             "count", "model_warmup", "inputs", "metric_tags", "x", "max_batch_size"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_no_json_raises_anything_but_invalid_argument(document: object) -> None:
    with suppress(InvalidArgument):
        parse_json(json.dumps(document), "m")


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_but_invalid_argument(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "config.pbtxt"
    path.write_bytes(data)
    with suppress(InvalidArgument):
        read(path, "m")


@pytest.mark.parametrize("opening", ["input {", "[", "input [", "parameters { key: {", "[a.b/c] {", "<"])
def test_deep_nesting_is_refused(opening: str) -> None:
    assert refusal(opening * 5000)


ENSEMBLE = """
input { name: "in" data_type: TYPE_FP32 dims: 4 }
output { name: "out" data_type: TYPE_FP32 dims: 4 }
"""


def ensemble(steps: str) -> str:
    return f"{ENSEMBLE} ensemble_scheduling {{ {steps} }}"


def test_an_ensemble_is_read() -> None:
    config = parse_text(
        ensemble(
            """step { model_name: "a" model_version: -1 input_map { key: "x" value: "in" }
                      output_map { key: "y" value: "between" } }
               step { model_name: "b" model_version: 3 input_map { key: "x" value: "between" }
                      output_map { key: "y" value: "out" } }"""
        ),
        "e",
    )
    assert config.platform == "ensemble"
    assert config.ensemble_steps == (
        EnsembleStep("a", NEWEST_VERSION, {"x": "in"}, {"y": "between"}),
        EnsembleStep("b", 3, {"x": "between"}, {"y": "out"}),
    )


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ('step { input_map { key: "x" value: "in" } }', "must specify 'model_name' in step 0"),
        ('step { model_name: "a" }', "must specify 'input_map' in step 0, of model 'a'"),
        ('step { model_name: "a" input_map { key: "x" value: "in" } }', "must specify 'output_map' in step 0"),
        (
            'step { model_name: "a" model_version: -2 input_map { key: "x" value: "in" } '
            'output_map { key: "y" value: "out" } }',
            "model_version in step 0 must be positive, or -1 for the newest; got -2",
        ),
    ],
)
def test_the_steps_of_an_ensemble_are_checked(steps: str, said: str) -> None:
    assert said in refusal(ensemble(steps)), refusal(ensemble(steps))


def test_an_ensemble_must_say_what_it_takes_and_gives() -> None:
    step = 'step { model_name: "a" input_map { key: "x" value: "in" } output_map { key: "y" value: "out" } }'
    assert "specify them" in refusal(f"ensemble_scheduling {{ {step} }}")


def test_the_backpressure_of_decoupled_steps_is_warned_of() -> None:
    step = 'step { model_name: "a" input_map { key: "x" value: "in" } output_map { key: "y" value: "out" } }'
    (warning,) = parse_text(ensemble(step + " max_inflight_requests: 4"), "e").warnings
    assert "max_inflight_requests" in warning
