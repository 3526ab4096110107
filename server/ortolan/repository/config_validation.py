"""The rules that a model configuration obeys by itself, before anyone looks at the model's graph. Pure."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ortolan.errors import InvalidArgument
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.config_support import ENSEMBLE
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_config import (
    NEWEST_VERSION,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    QueuePolicy,
    SpecificVersions,
    TimeoutAction,
    WarmupData,
    WarmupSample,
)

MAX_INSTANCES = 4096
MAX_STEPS = 1024
MAX_PRIORITY_LEVELS = 65536
MAX_QUEUE_DELAY_US = 3_600 * 1_000_000
MAX_TIMEOUT_US = 366 * 24 * 3_600 * 1_000_000
MAX_WARMUP_REQUESTS = 100_000
MAX_WARMUP_ELEMENTS = 2**31

_METRIC_TAG = re.compile(r"[A-Za-z0-9_]+")


def validate(config: ModelConfig) -> None:
    """Raises InvalidArgument for the first rule that ``config`` breaks: what was expected, what came, what to do."""
    check = _Check(f"model '{config.name}'")
    check.that(
        config.max_batch_size >= 0,
        f"max_batch_size must be 0 or more, got {config.max_batch_size}; 0 means no batch dimension",
    )
    _check_tensors(check, "input", config.inputs)
    _check_tensors(check, "output", config.outputs)
    _check_versions(check, config)
    _check_instance_groups(check, config.instance_groups)
    if config.dynamic_batching is not None:
        _check_preferred(check, config.dynamic_batching.preferred_batch_sizes, config.max_batch_size)
        _check_dynamic_batching(check, config.dynamic_batching)
    for sample in config.warmup:
        _check_warmup(check, sample, config.max_batch_size)
    _check_names(check, config)
    _check_ensemble(check, config)


@dataclass(frozen=True, slots=True)
class _Check:
    """Refuses in the name of one place in the configuration."""

    where: str

    def that(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise InvalidArgument(f"{self.where}: {otherwise}")

    def within(self, place: str) -> "_Check":
        return _Check(f"{self.where}: {place}")


def _check_tensors(check: _Check, kind: str, tensors: Sequence[TensorSpec]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        check.that(bool(tensor.name), f"every {kind} must specify 'name'")
        check.that(tensor.name not in seen, f"{kind} '{tensor.name}' is declared twice")
        seen.add(tensor.name)
        _check_dims(check.within(f"{kind} '{tensor.name}'"), tensor)


def _check_dims(check: _Check, tensor: TensorSpec) -> None:
    check.that(bool(tensor.dims), "must specify 'dims', without the batch dimension; a single number is dims: [ 1 ]")
    for name, sizes in (("dims", tensor.dims), ("reshape", tensor.reshape or ())):
        wrong = next((size for size in sizes if size < 1 and size != -1), None)
        check.that(wrong is None, f"{name} must be positive, or -1 for any size; got {wrong}")
    if tensor.reshape is not None:
        check.that(
            _fixed_parts(tensor.dims) == _fixed_parts(tensor.reshape),
            f"dims {list(tensor.dims)} and reshape {list(tensor.reshape)} must have the same number of elements, with "
            "their variable sizes (-1) in matching places",
        )
    if tensor.label_filename:
        check.that(
            stays_inside(tensor.label_filename),
            f"label_filename {tensor.label_filename!r} must be a relative name inside the model's directory",
        )


def _fixed_parts(sizes: Iterable[int]) -> list[int]:
    """The elements before, between and after the variable sizes."""
    parts = [1]
    for size in sizes:
        if size == -1:
            parts.append(1)
        else:
            parts[-1] *= size
    return parts


def _check_versions(check: _Check, config: ModelConfig) -> None:
    if isinstance(config.version_policy, SpecificVersions):
        numbers = config.version_policy.numbers
        check.that(bool(numbers), "version_policy.specific must list at least one version")
        wrong = next((number for number in numbers if number < 1), None)
        check.that(wrong is None, f"version_policy.specific must list positive versions, got {wrong}")


def _check_instance_groups(check: _Check, groups: Sequence[InstanceGroup]) -> None:
    for index, group in enumerate(groups):
        # A count of 0 is one that the file leaves out.
        check.that(
            0 <= group.count <= MAX_INSTANCES,
            f"instance_group[{index}].count must be between 1 and {MAX_INSTANCES}, got {group.count}",
        )
        check.that(
            not (group.kind is InstanceKind.CPU and group.gpus),
            f"instance_group[{index}] has KIND_CPU and lists GPUs {list(group.gpus)}: write KIND_GPU, or remove gpus",
        )
        wrong = next((gpu for gpu in group.gpus if gpu < 0), None)
        check.that(wrong is None, f"instance_group[{index}].gpus must be 0 or more, got {wrong}")
    total = sum(max(group.count, 1) for group in groups)
    check.that(total <= MAX_INSTANCES, f"instance_group asks for {total} instances; at most {MAX_INSTANCES} can be")


def _check_preferred(check: _Check, sizes: Iterable[int], max_batch_size: int) -> None:
    for size in sizes:
        check.that(size > 0, f"dynamic_batching.preferred_batch_size must be positive, got {size}: remove it")
        # With 0 the batch size may still come from the graph, and is checked again when it did.
        check.that(
            max_batch_size == 0 or size <= max_batch_size,
            f"dynamic_batching.preferred_batch_size must be at most max_batch_size {max_batch_size}, got {size}",
        )


def _check_dynamic_batching(parent: _Check, batching: DynamicBatching) -> None:
    check = parent.within("dynamic_batching")
    check.that(
        0 <= batching.max_queue_delay_us <= MAX_QUEUE_DELAY_US,
        f"max_queue_delay_microseconds must be at most {MAX_QUEUE_DELAY_US} (an hour), got "
        f"{batching.max_queue_delay_us}",
    )
    levels, default = batching.priority_levels, batching.default_priority_level
    check.that(
        0 <= levels <= MAX_PRIORITY_LEVELS, f"priority_levels must be at most {MAX_PRIORITY_LEVELS}, got {levels}"
    )
    check.that(
        levels == 0 or 1 <= default <= levels,
        f"default_priority_level must be between 1 and priority_levels {levels}, got {default}",
    )
    policies = batching.priority_queue_policies
    wrong = next((level for level in policies if not 1 <= level <= levels), None)
    check.that(
        wrong is None,
        f"priority_queue_policy has the level {wrong}, which is not in 1..{levels}: remove it, or raise "
        "priority_levels",
    )
    for policy in (batching.default_queue_policy, *policies.values()):
        _check_queue_policy(check, policy)
    _check_ordering(check, batching)


def _check_queue_policy(check: _Check, policy: QueuePolicy) -> None:
    check.that(
        0 <= policy.default_timeout_us <= MAX_TIMEOUT_US,
        f"default_timeout_microseconds must be at most {MAX_TIMEOUT_US} (a year), got {policy.default_timeout_us}; "
        "0 means no limit",
    )


def _check_ordering(check: _Check, batching: DynamicBatching) -> None:
    if not batching.preserve_ordering:
        return
    check.that(
        batching.priority_levels <= 1,
        f"preserve_ordering cannot be kept with {batching.priority_levels} priority_levels: remove one of the two",
    )
    policies = (batching.default_queue_policy, *batching.priority_queue_policies.values())
    check.that(
        all(policy.timeout_action is not TimeoutAction.DELAY for policy in policies),
        "preserve_ordering cannot be kept with timeout_action DELAY: write REJECT, or remove preserve_ordering",
    )


def _check_warmup(parent: _Check, sample: WarmupSample, max_batch_size: int) -> None:
    check = parent.within(f"warm-up sample '{sample.name}'")
    check.that(
        max_batch_size == 0 or sample.batch_size <= max_batch_size,
        f"batch_size must be at most max_batch_size {max_batch_size}, got {sample.batch_size}",
    )
    check.that(
        sample.batch_size * sample.count <= MAX_WARMUP_REQUESTS,
        f"batch_size × count must be at most {MAX_WARMUP_REQUESTS}, got {sample.batch_size * sample.count}",
    )
    check.that(bool(sample.inputs), "must specify at least one input")
    for each in sample.inputs:
        _check_warmup_dims(check.within(f"input '{each.spec.name}'"), each.spec.dims, sample.batch_size)
        check.that(
            each.data is not WarmupData.FILE or stays_inside(each.file),
            f"input_data_file {each.file!r} must be a relative name inside the model's warmup directory",
        )


def _check_warmup_dims(check: _Check, dims: Sequence[int], batch_size: int) -> None:
    check.that(bool(dims), "must specify 'dims', without the batch dimension")
    wrong = next((size for size in dims if size < 1), None)
    check.that(wrong is None, f"dims must be fully specified and positive, got {wrong}")
    elements = math.prod(dims) * batch_size
    check.that(elements <= MAX_WARMUP_ELEMENTS, f"has {elements} elements; at most {MAX_WARMUP_ELEMENTS} can be")


def _check_names(check: _Check, config: ModelConfig) -> None:
    filename = config.default_model_filename
    check.that(
        not filename or stays_inside(filename),
        f"default_model_filename {filename!r} must be a relative name inside the version's directory",
    )
    wrong = next((tag for tag in config.metric_tags if not _METRIC_TAG.fullmatch(tag)), None)
    check.that(wrong is None, f"metric_tags: '{wrong}' must consist of letters, digits and underscores")
    bounds = config.first_response_bounds_ms
    ascend = all(math.isfinite(bound) for bound in bounds) and list(bounds) == sorted(set(bounds))
    check.that(ascend, "model_metrics: the buckets of a histogram must be finite and ascend")
    check.that("" not in config.parameters, "parameters: every key must have at least one character")
    accelerators = (*config.optimization.gpu_accelerators, *config.optimization.cpu_accelerators)
    check.that(all(each.name for each in accelerators), "every execution accelerator must specify 'name'")
    check.that(
        all(name and name.isprintable() for name in config.op_library_filenames),
        "model_operations.op_library_filename must be a file name",
    )


def _check_ensemble(parent: _Check, config: ModelConfig) -> None:
    """What can be said of an ensemble without its models; ``ensemble_graph`` has the rest."""
    if config.platform != ENSEMBLE:
        return
    check = parent.within("ensemble_scheduling")
    check.that(bool(config.ensemble_steps), "must have at least one step")
    check.that(len(config.ensemble_steps) <= MAX_STEPS, f"has more than {MAX_STEPS} steps")
    for index, step in enumerate(config.ensemble_steps):
        check.that(bool(step.model_name), f"must specify 'model_name' in step {index}")
        check.that(bool(step.input_map), f"must specify 'input_map' in step {index}, of model '{step.model_name}'")
        check.that(bool(step.output_map), f"must specify 'output_map' in step {index}, of model '{step.model_name}'")
        check.that(
            step.model_version >= 1 or step.model_version == NEWEST_VERSION,
            f"model_version in step {index} must be positive, or {NEWEST_VERSION} for the newest; got "
            f"{step.model_version}",
        )
    check.that(bool(config.inputs and config.outputs), "needs the ensemble's inputs and outputs: specify them")
    reshaped = next((spec.name for spec in (*config.inputs, *config.outputs) if spec.reshape is not None), None)
    check.that(reshaped is None, f"tensor '{reshaped}' must not have a reshape: it belongs to the models of the steps")
