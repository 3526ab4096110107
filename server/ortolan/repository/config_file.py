"""``config.pbtxt`` → ModelConfig; refuses, by name and line, what we cannot honour.

``config_syntax`` reads the text, ``config_support`` refuses what this server cannot do, this module says the rest in
our words, and ``config_validation`` checks it. ``config_rendering`` is the way back.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BY_CONFIG_NUMBER, Datatype
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository import (
    config_support,
    config_validation,
    ragged_rules,
    ragged_syntax,
    rate_limiter_syntax,
    sequence_rules,
    sequence_syntax,
)
from ortolan.repository.config_syntax import message_from_json, message_from_text
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
    asks_for_own_batches,
)
from ortolan.repository.outside_text import config_refused
from ortolan.repository.private_files import FileRefused, open_anywhere
from ortolan.repository.sequence_config import SequenceBatching

# A configuration is a page or two of text; what is larger is another file by mistake.
_LARGEST_FILE_BYTES = 4 * 1024 * 1024

_Choice = TypeVar("_Choice", InstanceKind, TimeoutAction)


def read(path: Path, model_name: str, roots: Sequence[Path] = ()) -> ModelConfig:
    """The configuration in the file at ``path`` of the model ``model_name``.

    Raises InvalidArgument when the file cannot be read, is not UTF-8, or says what ``parse_text`` refuses. Nothing of
    its text is in the message if it is in none of ``roots``, by default its own directory, once links are followed.
    """
    content, may_be_shown = _content(path, model_name, roots or (path.parent,))
    try:
        config = parse_text(_decoded(content, path.name, model_name), model_name)
    except InvalidArgument as error:
        if may_be_shown:
            raise
        raise config_refused(path.name, model_name, error) from None
    return replace(config, file_sha256=hashlib.sha256(content).hexdigest())


def _content(path: Path, model_name: str, roots: Sequence[Path]) -> tuple[bytes, bool]:
    """What is in the file, and whether it lies in one of ``roots``."""
    try:
        file, is_inside = open_anywhere(path, roots)
        with file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
    except FileRefused as reason:
        raise InvalidArgument(f"{path.name} of model '{model_name}' {reason}") from reason
    except OSError as error:
        raise InvalidArgument(f"{path.name} of model '{model_name}' cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE_BYTES:
        raise InvalidArgument(f"{path.name} of model '{model_name}' is larger than {_LARGEST_FILE_BYTES} bytes")
    return content, is_inside


def _decoded(content: bytes, filename: str, model_name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidArgument(
            f"{filename} of model '{model_name}' is not UTF-8 text: byte {content[error.start]:#04x} at line {line}"
        ) from error


def parse_text(text: str, model_name: str) -> ModelConfig:
    """The configuration that ``text`` spells in protobuf's text format.

    Raises InvalidArgument, naming the line of what is misspelt, or the field that is wrong or not available here.
    """
    return _config(message_from_text(text, model_name), model_name)


def parse_json(text: str, model_name: str) -> ModelConfig:
    """The configuration that a JSON object spells, as the load request's ``config`` parameter has it.

    Raises InvalidArgument, naming the path of what is misspelt, or the field that is wrong or not available here.
    """
    return _config(message_from_json(text, model_name), model_name)


def _config(message: Any, model_name: str) -> ModelConfig:
    if message.name not in ("", model_name):
        raise InvalidArgument(
            f"unexpected directory name '{model_name}' for model '{message.name}', directory name must equal model "
            f'name: write name: "{model_name}", or leave it out'
        )
    config_support.refuse_unsupported(message, model_name)
    config = _in_our_words(message, model_name)
    config_validation.validate(config)
    sequence_rules.validate(config)
    ragged_rules.validate(config)
    return config


def _in_our_words(message: Any, model_name: str) -> ModelConfig:
    where = f"model '{model_name}'"
    return ModelConfig(
        name=model_name,
        platform=config_support.platform_of(message),
        backend=message.backend,
        max_batch_size=message.max_batch_size,
        inputs=tuple(_input_spec(tensor, where) for tensor in message.input),
        outputs=tuple(_output_spec(tensor, where) for tensor in message.output),
        version_policy=_version_policy(message.version_policy),
        instance_groups=tuple(_instance_group(group, where) for group in message.instance_group),
        dynamic_batching=_dynamic_batching(message, where),
        sequence_batching=_sequence_batching(message, where),
        batch_inputs=ragged_syntax.read_inputs(message.batch_input, where),
        batch_outputs=ragged_syntax.read_outputs(message.batch_output, where),
        default_model_filename=message.default_model_filename,
        cc_model_filenames=dict(sorted(message.cc_model_filenames.items())),
        metric_tags=dict(sorted(message.metric_tags.items())),
        parameters={key: value.string_value for key, value in sorted(message.parameters.items())},
        optimization=_optimization(message.optimization),
        warmup=tuple(_warmup_sample(sample, where) for sample in message.model_warmup),
        op_library_filenames=tuple(message.model_operations.op_library_filename),
        ensemble_steps=tuple(_ensemble_step(step) for step in message.ensemble_scheduling.step),
        response_cache=message.response_cache.enable,
        first_response_bounds_ms=_first_response_bounds(message.model_metrics),
        warnings=config_support.warnings(message),
        declared=message.SerializeToString(deterministic=True),
    )


def _first_response_bounds(metrics: Any) -> tuple[float, ...]:
    """The buckets that are chosen last."""
    chosen = [
        control.histogram_options.buckets
        for control in metrics.metric_control
        if control.metric_identifier.family == config_support.FIRST_RESPONSE
    ]
    return tuple(chosen[-1]) if chosen else ()


def _input_spec(tensor: Any, where: str) -> TensorSpec:
    place = f"{where}: input '{tensor.name}'"
    if tensor.format and len(tensor.dims) != 3:
        raise InvalidArgument(f"{place}: FORMAT_NHWC and FORMAT_NCHW require 3 dims, got {len(tensor.dims)}")
    if tensor.format not in tensor.Format.values():
        raise InvalidArgument(f"{place}: unknown format {tensor.format}; known are {', '.join(tensor.Format.keys())}")
    return TensorSpec(
        name=tensor.name,
        datatype=_datatype(tensor.data_type, place),
        dims=tuple(tensor.dims),
        optional=tensor.optional,
        reshape=tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None,
        ragged=tensor.allow_ragged_batch,
    )


def _output_spec(tensor: Any, where: str) -> TensorSpec:
    return TensorSpec(
        name=tensor.name,
        datatype=_datatype(tensor.data_type, f"{where}: output '{tensor.name}'"),
        dims=tuple(tensor.dims),
        reshape=tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None,
        label_filename=tensor.label_filename,
    )


def _datatype(number: int, place: str) -> Datatype:
    datatype = BY_CONFIG_NUMBER.get(number)
    if datatype is None:
        problem = "must specify 'data_type'" if number == 0 else f"unknown data_type {number}"
        known = ", ".join(row.config_name for row in BY_CONFIG_NUMBER.values())
        raise InvalidArgument(f"{place} {problem}: write one of {known}")
    return datatype


def _version_policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        return SpecificVersions(tuple(policy.specific.versions))
    # An absent number and 0 are the same on the wire, and absent means 1.
    return LatestVersions(policy.latest.num_versions or 1)


def _instance_group(group: Any, where: str) -> InstanceGroup:
    kind = _choice(InstanceKind, group.kind, f"{where}: instance_group.kind", "KIND_")
    limiter = rate_limiter_syntax.read(group.rate_limiter, where)
    return InstanceGroup(group.name, kind, group.count, tuple(group.gpus), limiter)


def _dynamic_batching(message: Any, where: str) -> DynamicBatching | None:
    if not message.HasField("dynamic_batching"):
        return None
    block = message.dynamic_batching
    preferred, delay_us = tuple(block.preferred_batch_size), block.max_queue_delay_microseconds
    return DynamicBatching(
        preferred_batch_sizes=preferred,
        max_queue_delay_us=delay_us,
        preserve_ordering=block.preserve_ordering,
        priority_levels=block.priority_levels,
        default_priority_level=block.default_priority_level,
        default_queue_policy=_queue_policy(block.default_queue_policy, where),
        priority_queue_policies={
            level: _queue_policy(policy, where) for level, policy in sorted(block.priority_queue_policy.items())
        },
        explicit=asks_for_own_batches(preferred, delay_us, message.max_batch_size),
    )


def _sequence_batching(message: Any, where: str) -> SequenceBatching | None:
    if not message.HasField("sequence_batching"):
        return None
    return sequence_syntax.read(message.sequence_batching, where)


def _queue_policy(policy: Any, where: str) -> QueuePolicy:
    return QueuePolicy(
        timeout_action=_choice(TimeoutAction, policy.timeout_action, f"{where}: timeout_action", ""),
        default_timeout_us=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )


def _choice(choices: type[_Choice], number: int, place: str, prefix: str) -> _Choice:
    try:
        return choices(number)
    except ValueError as error:
        known = ", ".join(f"{prefix}{choice.name}" for choice in choices)
        raise InvalidArgument(f"{place} {number} is unknown: write one of {known}") from error


def _optimization(optimization: Any) -> Optimization:
    accelerators = optimization.execution_accelerators
    return Optimization(
        graph_level=optimization.graph.level,
        gpu_accelerators=_accelerators(accelerators.gpu_execution_accelerator),
        cpu_accelerators=_accelerators(accelerators.cpu_execution_accelerator),
        cuda_graphs=optimization.cuda.graphs,
    )


def _accelerators(accelerators: Iterable[Any]) -> tuple[Accelerator, ...]:
    return tuple(Accelerator(each.name, dict(sorted(each.parameters.items()))) for each in accelerators)


def _ensemble_step(step: Any) -> EnsembleStep:
    return EnsembleStep(
        model_name=step.model_name,
        # Absent and 0 are the same on the wire, and there is no version 0: whoever says nothing means the newest.
        model_version=step.model_version or NEWEST_VERSION,
        input_map=dict(sorted(step.input_map.items())),
        output_map=dict(sorted(step.output_map.items())),
    )


def _warmup_sample(sample: Any, where: str) -> WarmupSample:
    place = f"{where}: warm-up sample '{sample.name}'"
    inputs = tuple(_warmup_input(name, data, place) for name, data in sorted(sample.inputs.items()))
    # Absent and 0 are the same on the wire, and absent means 1 of each.
    return WarmupSample(sample.name, sample.batch_size or 1, sample.count or 1, inputs)


def _warmup_input(name: str, data: Any, place: str) -> WarmupInput:
    choice = data.WhichOneof("input_data_type")
    if choice is None:
        raise InvalidArgument(f"{place}, input '{name}' must specify zero_data, random_data or input_data_file")
    kinds = {"zero_data": WarmupData.ZERO, "random_data": WarmupData.RANDOM, "input_data_file": WarmupData.FILE}
    spec = TensorSpec(name, _datatype(data.data_type, f"{place}, input '{name}'"), tuple(data.dims))
    return WarmupInput(spec, kinds[choice], data.input_data_file)
