"""ModelConfig → the ``ModelConfig`` message, Triton's JSON of it, and ``config.pbtxt`` text. Pure.

What we only pass on (``declared``) is kept; everything that we have a word for is written over it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format

from ortolan.inference.tensor_spec import TensorSpec
from ortolan.protocol.protobuf_messages import ModelConfig as ModelConfigMessage
from ortolan.repository import ragged_syntax, rate_limiter_syntax, sequence_syntax
from ortolan.repository.config_syntax import is_map, is_repeated
from ortolan.repository.model_config import (
    Accelerator,
    AllVersions,
    DynamicBatching,
    InstanceGroup,
    LatestVersions,
    ModelConfig,
    Optimization,
    QueuePolicy,
    SpecificVersions,
    VersionPolicy,
    WarmupData,
    WarmupSample,
)


def to_text(config: ModelConfig) -> str:
    """``config.pbtxt`` that ``parse_text`` reads back as ``config``."""
    return str(text_format.MessageToString(to_message(config), as_utf8=True))


def to_json(config: ModelConfig) -> dict[str, Any]:
    """The JSON object that Triton's ``/config`` shows: see ``message_to_json``."""
    return message_to_json(to_message(config))


def to_message(config: ModelConfig) -> Any:
    """The ``inference.ModelConfig`` message, as gRPC's ModelConfig answers it."""
    message = ModelConfigMessage.FromString(config.declared)
    message.name = config.name
    message.platform = config.platform
    message.backend = config.backend
    message.max_batch_size = config.max_batch_size
    message.default_model_filename = config.default_model_filename
    _write_tensors(message.input, config.inputs)
    _write_tensors(message.output, config.outputs)
    for tensor, spec in zip(message.input, config.inputs, strict=True):
        tensor.optional = spec.optional
        tensor.allow_ragged_batch = spec.ragged
    for tensor, spec in zip(message.output, config.outputs, strict=True):
        tensor.label_filename = spec.label_filename
    _write_version_policy(message.version_policy, config.version_policy)
    _write_instance_groups(message.instance_group, config.instance_groups)
    _write_dynamic_batching(message, config.dynamic_batching)
    ragged_syntax.write_inputs(message.batch_input, config.batch_inputs)
    ragged_syntax.write_outputs(message.batch_output, config.batch_outputs)
    if config.sequence_batching is not None:
        sequence_syntax.write(message.sequence_batching, config.sequence_batching)
    if not config.is_ensemble:
        _write_optimization(message.optimization, config.optimization)
    _write_ensemble(message, config)
    _write_warmup(message.model_warmup, config.warmup)
    _write_extras(message, config)
    return message


def message_to_json(message: Any) -> dict[str, Any]:
    """A message as Triton prints it: snake_case names, all default values, 64-bit integers as numbers.

    Messages and members of a oneof appear only when they are set; map keys are strings.
    """
    content: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if is_map(field):
            content[field.name] = _map_to_json(getattr(message, field.name), field)
        elif is_repeated(field):
            content[field.name] = [_value_to_json(value, field) for value in getattr(message, field.name)]
        elif not field.has_presence or message.HasField(field.name):
            content[field.name] = _value_to_json(getattr(message, field.name), field)
    return content


def _map_to_json(entries: Any, field: Any) -> dict[str, Any]:
    value_field = field.message_type.fields_by_name["value"]
    return {str(key): _value_to_json(entries[key], value_field) for key in sorted(entries)}


def _value_to_json(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return message_to_json(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    if field.type == field.TYPE_FLOAT:
        return float(str(np.float32(value)))  # 0.1 rather than 0.10000000149011612.
    return value


def _write_tensors(messages: Any, specs: Sequence[TensorSpec]) -> None:
    """Write ``specs`` in their order; what else the file says of a tensor, such as its format, stays with its name."""
    declared = {message.name: message for message in messages}
    count = len(messages)
    for spec in specs:
        message = messages.add()
        if spec.name in declared:
            message.CopyFrom(declared[spec.name])
        _write_tensor(message, spec)
    del messages[:count]


def _write_tensor(message: Any, spec: TensorSpec) -> None:
    message.name = spec.name
    message.data_type = spec.datatype.config_number
    message.dims[:] = spec.dims
    message.ClearField("reshape")
    if spec.reshape is not None:
        message.reshape.SetInParent()
        message.reshape.shape[:] = spec.reshape


def _write_version_policy(message: Any, policy: VersionPolicy) -> None:
    message.Clear()
    match policy:
        case LatestVersions(count):
            message.latest.num_versions = count
        case AllVersions():
            message.all.SetInParent()
        case SpecificVersions(numbers):
            message.specific.SetInParent()
            message.specific.versions[:] = numbers


def _write_instance_groups(messages: Any, groups: Sequence[InstanceGroup]) -> None:
    if len(messages) != len(groups):
        del messages[:]
        for _ in groups:
            messages.add()
    for message, group in zip(messages, groups, strict=True):
        message.name = group.name
        message.kind = group.kind.value
        message.count = group.count
        message.gpus[:] = group.gpus
        rate_limiter_syntax.write(message, group.rate_limiter)


def _write_dynamic_batching(message: Any, batching: DynamicBatching | None) -> None:
    message.ClearField("dynamic_batching")
    if batching is None:
        return
    block = message.dynamic_batching
    block.SetInParent()
    block.preferred_batch_size[:] = batching.preferred_batch_sizes
    block.max_queue_delay_microseconds = batching.max_queue_delay_us
    block.preserve_ordering = batching.preserve_ordering
    block.priority_levels = batching.priority_levels
    block.default_priority_level = batching.default_priority_level
    if batching.default_queue_policy != QueuePolicy():
        _write_queue_policy(block.default_queue_policy, batching.default_queue_policy)
    for level, policy in batching.priority_queue_policies.items():
        _write_queue_policy(block.priority_queue_policy[level], policy)


def _write_queue_policy(message: Any, policy: QueuePolicy) -> None:
    message.timeout_action = policy.timeout_action.value
    message.default_timeout_microseconds = policy.default_timeout_us
    message.allow_timeout_override = policy.allow_timeout_override
    message.max_queue_size = policy.max_queue_size


def _write_optimization(message: Any, optimization: Optimization) -> None:
    message.SetInParent()  # Triton always shows this block.
    if optimization.graph_level or message.HasField("graph"):
        message.graph.level = optimization.graph_level
    if optimization.cuda_graphs or message.HasField("cuda"):
        message.cuda.graphs = optimization.cuda_graphs
    accelerators = optimization.gpu_accelerators or optimization.cpu_accelerators
    if accelerators or message.HasField("execution_accelerators"):
        block = message.execution_accelerators
        _write_accelerators(block.gpu_execution_accelerator, optimization.gpu_accelerators)
        _write_accelerators(block.cpu_execution_accelerator, optimization.cpu_accelerators)


def _write_accelerators(messages: Any, accelerators: Iterable[Accelerator]) -> None:
    del messages[:]
    for accelerator in accelerators:
        message = messages.add(name=accelerator.name)
        message.parameters.update(accelerator.parameters)


def _write_ensemble(message: Any, config: ModelConfig) -> None:
    if not config.is_ensemble:
        return
    messages = message.ensemble_scheduling.step
    del messages[:]
    for step in config.ensemble_steps:
        written = messages.add(model_name=step.model_name, model_version=step.model_version)
        written.input_map.update(step.input_map)
        written.output_map.update(step.output_map)


def _write_warmup(messages: Any, samples: Iterable[WarmupSample]) -> None:
    del messages[:]
    for sample in samples:
        message = messages.add(name=sample.name, batch_size=sample.batch_size, count=sample.count)
        for each in sample.inputs:
            data = message.inputs[each.spec.name]
            data.data_type = each.spec.datatype.config_number
            data.dims[:] = each.spec.dims
            match each.data:
                case WarmupData.ZERO:
                    data.zero_data = True
                case WarmupData.RANDOM:
                    data.random_data = True
                case WarmupData.FILE:
                    data.input_data_file = each.file


def _write_extras(message: Any, config: ModelConfig) -> None:
    message.metric_tags.clear()
    message.metric_tags.update(config.metric_tags)
    message.parameters.clear()
    for key, value in config.parameters.items():
        message.parameters[key].string_value = value
    if config.response_cache or message.HasField("response_cache"):
        message.response_cache.enable = config.response_cache
    if config.op_library_filenames or message.HasField("model_operations"):
        message.model_operations.op_library_filename[:] = config.op_library_filenames
