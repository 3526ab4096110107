"""What is said of each model that cannot be loaded: what it has, what its configuration says, what to write instead."""

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.repository.directory import ModelEntry, walk

OPTIONS = LoadingOptions(DeviceInventory(cores=1), DeviceShares(1))
X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ] '
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ] '
BATCH = "max_batch_size: 4 "


def batchable() -> onnx.ModelProto:
    return onnx_models.doubler()


def fixed() -> onnx.ModelProto:
    return onnx_models.doubler((1, 4))


def variable() -> onnx.ModelProto:
    return onnx_models.doubler(("batch", "n"))


def with_a_default() -> onnx.ModelProto:
    """y = x + bias, where a request may send another bias."""
    shape = (TensorProto.FLOAT, ["batch", 4])
    nodes = [helper.make_node("Add", ["x", "bias"], ["y"])]
    inputs = [("x", *shape), ("bias", TensorProto.FLOAT, [4])]
    return onnx_models.model(nodes, inputs, [("y", *shape)], {"bias": np.zeros(4, np.float32)})


def of_two_inputs() -> onnx.ModelProto:
    shape = (TensorProto.FLOAT, ["batch", 4])
    return onnx_models.model(
        [helper.make_node("Add", ["a", "b"], ["y"])], [("a", *shape), ("b", *shape)], [("y", *shape)]
    )


def refusal(tmp_path: Path, proto: onnx.ModelProto, config: str) -> str:
    onnx_models.save_version(tmp_path, "m", proto, config=config)
    entry = walk([tmp_path]).models["m"]
    with pytest.raises(InvalidArgument) as refused:
        load(entry)
    return refused.value.message


def load(entry: ModelEntry) -> None:
    parsed = read_config(entry)
    (version,) = wanted_versions(entry, parsed).values()
    load_version(entry, parsed, version, OPTIONS)


# (the model, its configuration, what it has, what the configuration says, what to write)
AGAINST_THE_GRAPH = [
    (
        of_two_inputs,
        BATCH + X.replace('"x"', '"a"') + Y,
        "model provides 2: a, b",
        "configuration expects 1 inputs",
        "add input [ { name: \"b\" data_type: TYPE_FP32 dims: [ 4 ] } ], or leave 'input' out",
    ),
    (
        batchable,
        BATCH + X + Y + Y.replace('"y"', '"z"'),
        "model provides 1: y",
        "configuration expects 2 outputs",
        "remove output 'z', or leave 'output' out",
    ),
    (batchable, BATCH + X.replace('"x"', '"q"') + Y, "allowed inputs are: x", "input 'q'", "write one of these"),
    (batchable, BATCH + X + Y.replace('"y"', '"q"'), "allowed outputs are: y", "output 'q'", "write one of these"),
    (
        batchable,
        BATCH + X.replace("FP32", "INT64") + Y,
        "model provides TYPE_FP32",
        "configuration expects datatype TYPE_INT64 for input 'x'",
        "write data_type: TYPE_FP32",
    ),
    (
        batchable,
        BATCH + X + Y.replace("FP32", "FP16"),
        "model provides TYPE_FP32",
        "configuration expects datatype TYPE_FP16 for output 'y'",
        "write data_type: TYPE_FP32",
    ),
    (
        batchable,
        BATCH + X.replace("[ 4 ]", "[ -1, 4 ]") + Y,
        "the model expects 2 dimensions (shape [-1,4])",
        "specifies 3 dimensions (shape [-1,-1,4], the batch dimension",
        "Write dims: [ 4 ].",
    ),
    (
        batchable,
        X + Y,
        "the model expects 2 dimensions (shape [-1,4])",
        "specifies 1 dimensions (shape [4])",
        "Write dims: [ -1, 4 ], or max_batch_size: 1 or more",
    ),
    (batchable, BATCH + X.replace("[ 4 ]", "[ 5 ]") + Y, "(shape [-1,4])", "(shape [-1,5],", "Write dims: [ 4 ]."),
    (batchable, BATCH + X.replace("[ 4 ]", "[ -1 ]") + Y, "(shape [-1,4])", "(shape [-1,-1],", "Write dims: [ 4 ]."),
    (
        variable,
        BATCH + X + Y,
        "tensor 'y': the model expects 2 dimensions (shape [-1,-1])",
        "(shape [-1,4],",
        "[ -1 ].",
    ),
    (
        batchable,
        BATCH + X.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 2, 2 ] }") + Y,
        "(shape [-1,4])",
        "(shape [-1,2,2],",
        "Write reshape { shape: [ 4 ] }, or leave reshape out and write dims: [ 4 ].",
    ),
    (
        fixed,
        BATCH + X + Y,
        "shape expected by the model is [1,4]",
        "max_batch_size is 4",
        "Set max_batch_size: 0 and write whole shapes as dims, for this tensor dims: [ 1, 4 ]",
    ),
    (
        fixed,
        BATCH,
        "'x' has the shape [1,4], whose first dimension is not dynamic",
        "non-zero max_batch_size",
        "Set max_batch_size: 0",
    ),
    (
        batchable,
        BATCH + X.replace("dims: [ 4 ]", "dims: [ 4 ] optional: true") + Y,
        "the model has no default",
        "the configuration says optional",
        "leave 'optional' out",
    ),
    (
        fixed,
        "dynamic_batching { preferred_batch_size: [ 8 ] }",
        "needs a batch dimension",
        "preferred_batch_size [8]",
        "leave the preferred sizes out",
    ),
    (
        batchable,
        "version_policy { specific { versions: [ 3 ] } }",
        "versions [1] are there",
        "under the version policy",
        "write version_policy { specific { versions: [ 1 ] } }",
    ),
    (
        with_a_default,
        BATCH + X + X.replace('"x"', '"bias"') + Y,
        "the model has a default for 'bias'",
        "max_batch_size is 4",
        "leave the input out, or set max_batch_size: 0",
    ),
    (batchable, 'default_model_filename: "a.onnx"', "there is 'model.onnx'", "no file 'a.onnx'", "Rename the file"),
]


@pytest.mark.parametrize(("proto", "config", "has", "says", "write"), AGAINST_THE_GRAPH)
def test_a_model_and_its_configuration_that_disagree_are_both_quoted_and_a_remedy_named(
    tmp_path: Path, proto: object, config: str, has: str, says: str, write: str
) -> None:
    assert callable(proto)
    message = refusal(tmp_path, proto(), config)
    assert has in message, message
    assert says in message, message
    assert write in message, message
    assert "'m'" in message
    assert str(tmp_path) not in message


# (the configuration, what it says, what to write)
BY_ITSELF = [
    ('name: "other"', "for model 'other'", 'write name: "m", or leave it out'),
    ("max_batch_size: -1", "got -1", "0 means no batch dimension"),
    (BATCH + X.replace("dims: [ 4 ]", "") + Y, "input 'x': must specify 'dims'", "a single number is dims: [ 1 ]"),
    (BATCH + X.replace("[ 4 ]", "[ 0 ]") + Y, "got 0", "positive, or -1 for any size"),
    (
        BATCH + X.replace("data_type: TYPE_FP32 ", "") + Y,
        "input 'x' must specify 'data_type'",
        "write one of TYPE_BOOL",
    ),
    (BATCH + X.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 3 ] }") + Y, "dims [4] and reshape [3]", "the same number"),
    (BATCH + "dynamic_batching { preferred_batch_size: [ 0 ] }", "got 0", "remove it"),
    (BATCH + "dynamic_batching { preferred_batch_size: [ 8 ] }", "got 8", "at most max_batch_size 4"),
    ("dynamic_batching { priority_levels: 2 }", "default_priority_level", "between 1 and priority_levels 2, got 0"),
    (
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }",
        "preserve_ordering cannot be kept with 2 priority_levels",
        "remove one of the two",
    ),
    (
        "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY } }",
        "preserve_ordering cannot be kept with timeout_action DELAY",
        "write REJECT, or remove preserve_ordering",
    ),
    (
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
        "priority_queue_policy { key: 3 value { max_queue_size: 1 } } }",
        "has the level 3, which is not in 1..2",
        "remove it, or raise priority_levels",
    ),
    ("instance_group [ { kind: KIND_GPU } ]", "asks for GPUs, but this server has no GPU", "write kind: KIND_CPU"),
    ("instance_group [ { kind: KIND_GPU gpus: [ 7 ] } ]", "asks for GPU 7, but this server has no GPU", "change gpus"),
    ("instance_group [ { kind: KIND_CPU gpus: [ 0 ] } ]", "lists GPUs [0]", "write KIND_GPU, or remove gpus"),
    ("instance_group [ { count: -1 } ]", "got -1", "between 1 and 4096"),
    (
        BATCH + X + Y.replace("[ 4 ]", '[ 4 ] label_filename: "l.txt"'),
        "label_filename 'l.txt' is not there",
        "a text file",
    ),
    (X.replace("data_type", "format: FORMAT_NHWC data_type") + Y, "got 1", "require 3 dims"),
    ('platform: "tensorrt_plan"', "platform 'tensorrt_plan' is not available", "export the model to ONNX and write"),
    (
        'model_repository_agents { agents { name: "checksum" } }',
        "repository agent 'checksum' is not available",
        "leave model_repository_agents out; SHA256SUMS",
    ),
    (
        "optimization { execution_accelerators { cpu_execution_accelerator { name: 'openvino' } } }",
        "asks for OpenVINOExecutionProvider, which this ONNX Runtime does not have",
        "Install the ONNX Runtime build that has it, or set the model parameter 'fallback'",
    ),
    (
        "optimization { execution_accelerators { cpu_execution_accelerator { name: 'warp' } } }",
        "unknown Execution Accelerator 'warp' is requested for model 'm'",
        "known are cpu, cuda",
    ),
    (
        "parameters { key: 'session.disable_prepackin' value { string_value: '1' } }",
        "unknown parameter of model 'm' 'session.disable_prepackin'",
        "did you mean 'session.disable_prepacking'?",
    ),
    (
        'backend: "python"',
        "backend 'python' is not available: this server runs ONNX models; export the model to ONNX",
        'or backend: "onnxruntime", or leave both out',
    ),
    (
        'platform: "onnxruntime"',
        "platform 'onnxruntime' is not available: for an ONNX model",
        'write platform: "onnxruntime_onnx" or backend: "onnxruntime", or leave both out',
    ),
    ('backend: "ORT"', "backend 'ORT' is not available: for an ONNX model", 'write platform: "onnxruntime_onnx" or'),
    ("model_transaction_policy { decoupled: true }", "decoupled", "must be false"),
    ("max_batch_sze: 4", 'unknown field "max_batch_sze" at line 1', 'did you mean "max_batch_size"?'),
    (X.replace("TYPE_FP32", "FP32"), 'unknown value "FP32" at line 1', 'did you mean "TYPE_FP32"?'),
    ('metric_tags { key: "a-b" value: "c" }', "metric_tags: 'a-b'", "letters, digits and underscores"),
    ("response_cache { enable: true } sequence_batching { }", "response_cache cannot be enabled", "sequence_batching"),
]


@pytest.mark.parametrize(("config", "says", "write"), BY_ITSELF)
def test_a_rule_that_a_configuration_breaks_is_named_with_a_remedy(
    tmp_path: Path, config: str, says: str, write: str
) -> None:
    message = refusal(tmp_path, batchable(), config)
    assert says in message, message
    assert write in message, message
    assert "'m'" in message
    assert str(tmp_path) not in message
