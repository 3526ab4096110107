"""Every field of Triton's model configuration, and what this server does with it: one row each.

A row has a configuration that sets the field, and what is to be seen of it. ``test_config_parity`` checks that no field
of the message is without a row, that what each row says is so, and that the documentation says the same.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ortolan.inference.datatypes import FP32, INT32
from ortolan.repository.model_config import (
    Accelerator,
    AllVersions,
    DynamicBatching,
    EnsembleStep,
    InstanceKind,
    LatestVersions,
    ModelConfig,
    QueuePolicy,
    SpecificVersions,
    TimeoutAction,
    WarmupData,
)
from ortolan.repository.ragged_config import BatchInputKind
from ortolan.repository.rate_limiter_config import RateLimiterConfig
from ortolan.repository.sequence_config import (
    ControlKind,
    DirectStrategy,
    InitialState,
    OldestStrategy,
    SequenceBatching,
)


class Fate(enum.Enum):
    """What becomes of a field."""

    HONOURED = "honoured"
    WARNED = "warned"
    """It changes nothing, and the log says so by its name when the model is loaded."""
    REFUSED = "refused"
    """The model is not loaded, and the reason names the field."""


@dataclass(frozen=True)
class Row:
    """``text`` sets the field ``path``; ``seen`` then finds ``value`` in what is read, or ``named`` is said of it."""

    path: str
    fate: Fate
    text: str
    seen: Callable[[ModelConfig], object] = lambda _: None
    value: object = None
    named: str = ""


def honoured(path: str, text: str, seen: Callable[[ModelConfig], object], value: object) -> Row:
    return Row(path, Fate.HONOURED, text, seen, value)


def warned(path: str, text: str, named: str = "") -> Row:
    return Row(path, Fate.WARNED, text, named=named or path.rpartition(".")[2])


def refused(path: str, text: str, named: str) -> Row:
    return Row(path, Fate.REFUSED, text, named=named)


def rows() -> Iterator[Row]:
    yield from _identity()
    yield from _tensors()
    yield from _instances()
    yield from _dynamic_batching()
    yield from _sequences()
    yield from _ensembles()
    yield from _optimization()
    yield from _the_rest()


def _identity() -> Iterator[Row]:
    yield honoured("name", 'name: "m"', lambda c: c.name, "m")
    yield honoured("platform", 'platform: "onnxruntime_onnx"', lambda c: c.platform, "onnxruntime_onnx")
    yield honoured("backend", 'backend: "onnxruntime"', lambda c: c.backend, "onnxruntime")
    yield warned("runtime", 'runtime: "python"', "runtime 'python' is ignored")
    yield honoured("max_batch_size", "max_batch_size: 3", lambda c: c.max_batch_size, 3)
    policy = "version_policy { %s }"
    seen: Callable[[ModelConfig], object] = lambda c: c.version_policy  # noqa: E731 - three rows look at it
    yield honoured("version_policy.latest.num_versions", policy % "latest { num_versions: 2 }", seen, LatestVersions(2))
    yield honoured("version_policy.all", policy % "all { }", seen, AllVersions())
    yield honoured(
        "version_policy.specific.versions", policy % "specific { versions: [ 1, 3 ] }", seen, SpecificVersions((1, 3))
    )
    yield honoured(
        "default_model_filename",
        'default_model_filename: "a.onnx"',
        lambda c: c.default_model_filename,
        "a.onnx",
    )


def _tensors() -> Iterator[Row]:
    x = 'input { name: "x" data_type: TYPE_FP32 dims: 4 %s }'
    yield honoured("input.name", x % "", lambda c: c.inputs[0].name, "x")
    yield honoured("input.data_type", x % "", lambda c: c.inputs[0].datatype, FP32)
    yield honoured("input.dims", x % "", lambda c: c.inputs[0].dims, (4,))
    # Checked against dims, and shown; Triton does no more with it.
    yield refused("input.format", x % "format: FORMAT_NCHW", "FORMAT_NHWC and FORMAT_NCHW require 3 dims, got 1")
    yield honoured("input.reshape.shape", x % "reshape { shape: [ 2, 2 ] }", lambda c: c.inputs[0].reshape, (2, 2))
    yield warned("input.is_shape_tensor", x % "is_shape_tensor: true", "is_shape_tensor of 'x' is ignored")
    yield honoured("input.allow_ragged_batch", x % "allow_ragged_batch: true", lambda c: c.inputs[0].ragged, True)
    yield honoured("input.optional", x % "optional: true", lambda c: c.inputs[0].optional, True)
    yield warned("input.is_non_linear_format_io", x % "is_non_linear_format_io: true")
    y = 'output { name: "y" data_type: TYPE_FP32 dims: 4 %s }'
    yield honoured("output.name", y % "", lambda c: c.outputs[0].name, "y")
    yield honoured("output.data_type", y % "", lambda c: c.outputs[0].datatype, FP32)
    yield honoured("output.dims", y % "", lambda c: c.outputs[0].dims, (4,))
    yield honoured("output.label_filename", y % 'label_filename: "l"', lambda c: c.outputs[0].label_filename, "l")
    yield honoured("output.reshape.shape", y % "reshape { shape: [ 2, 2 ] }", lambda c: c.outputs[0].reshape, (2, 2))
    yield warned("output.is_shape_tensor", y % "is_shape_tensor: true")
    yield warned("output.is_non_linear_format_io", y % "is_non_linear_format_io: true")
    made = 'batch_input { kind: BATCH_ITEM_SHAPE target_name: "n" data_type: TYPE_INT32 source_input: "x" }'
    yield honoured("batch_input.kind", made, lambda c: c.batch_inputs[0].kind, BatchInputKind.ITEM_SHAPE)
    yield honoured("batch_input.target_name", made, lambda c: c.batch_inputs[0].targets, ("n",))
    yield honoured("batch_input.data_type", made, lambda c: c.batch_inputs[0].datatype, INT32)
    yield honoured("batch_input.source_input", made, lambda c: c.batch_inputs[0].source, "x")
    dealt = (y % "") + 'batch_output { target_name: "y" source_input: "x" kind: BATCH_SCATTER_WITH_INPUT_SHAPE }'
    yield honoured("batch_output.target_name", dealt, lambda c: c.batch_outputs[0].targets, ("y",))
    yield honoured("batch_output.source_input", dealt, lambda c: c.batch_outputs[0].source, "x")
    # There is one kind, and it is done.
    yield honoured("batch_output.kind", dealt, lambda c: len(c.batch_outputs), 1)


def _instances() -> Iterator[Row]:
    group = "instance_group { %s }"
    yield honoured("instance_group.name", group % 'name: "g"', lambda c: c.instance_groups[0].name, "g")
    yield honoured("instance_group.count", group % "count: 3", lambda c: c.instance_groups[0].count, 3)
    yield honoured("instance_group.gpus", group % "gpus: [ 1, 0 ]", lambda c: c.instance_groups[0].gpus, (1, 0))
    yield honoured("instance_group.kind", group % "kind: KIND_CPU", _kind, InstanceKind.CPU)
    yield warned("instance_group.profile", group % 'profile: "0"', "instance_group.profile is ignored")
    limiter = group % 'rate_limiter { priority: 2 resources { name: "r" global: true count: 3 } }'
    yield honoured("instance_group.rate_limiter.priority", limiter, lambda c: _limiter(c).priority, 2)
    resources = "instance_group.rate_limiter.resources"
    yield honoured(f"{resources}.name", limiter, lambda c: _limiter(c).resources[0].name, "r")
    yield honoured(f"{resources}.global", limiter, lambda c: _limiter(c).resources[0].everywhere, True)
    yield honoured(f"{resources}.count", limiter, lambda c: _limiter(c).resources[0].count, 3)
    yield warned("instance_group.passive", group % "passive: true")
    second = group % "secondary_devices { kind: KIND_NVDLA device_id: 1 }"
    yield warned("instance_group.secondary_devices.kind", second, "secondary_devices is ignored")
    yield warned("instance_group.secondary_devices.device_id", second, "secondary_devices is ignored")
    yield warned("instance_group.host_policy", group % 'host_policy: "p"', "instance_group.host_policy is ignored")


def _kind(config: ModelConfig) -> InstanceKind:
    return config.instance_groups[0].kind


def _limiter(config: ModelConfig) -> RateLimiterConfig:
    return config.instance_groups[0].rate_limiter


def _dynamic_batching() -> Iterator[Row]:
    at, block = "dynamic_batching", "max_batch_size: 8 dynamic_batching { %s }"
    yield honoured(
        f"{at}.preferred_batch_size",
        block % "preferred_batch_size: [ 2, 4 ]",
        lambda c: _dynamic(c).preferred_batch_sizes,
        (2, 4),
    )
    delay = block % "max_queue_delay_microseconds: 9"
    yield honoured(f"{at}.max_queue_delay_microseconds", delay, lambda c: _dynamic(c).max_queue_delay_us, 9)
    yield honoured(
        f"{at}.preserve_ordering",
        block % "preserve_ordering: true",
        lambda c: _dynamic(c).preserve_ordering,
        True,
    )
    levels = block % "priority_levels: 3 default_priority_level: 2 priority_queue_policy { key: 1 value { %s } }"
    yield honoured(f"{at}.priority_levels", levels % "", lambda c: _dynamic(c).priority_levels, 3)
    yield honoured(f"{at}.default_priority_level", levels % "", lambda c: _dynamic(c).default_priority_level, 2)
    one: Callable[[ModelConfig], QueuePolicy] = lambda c: _dynamic(c).priority_queue_policies[1]  # noqa: E731
    usual: Callable[[ModelConfig], QueuePolicy] = lambda c: _dynamic(c).default_queue_policy  # noqa: E731
    for field, value, policy in _queue_policy_fields():
        yield honoured(
            f"{at}.default_queue_policy.{field}", block % f"default_queue_policy {{ {value} }}", usual, policy
        )
        yield honoured(f"{at}.priority_queue_policy.{field}", levels % value, one, policy)


def _queue_policy_fields() -> Iterator[tuple[str, str, QueuePolicy]]:
    yield "timeout_action", "timeout_action: DELAY", QueuePolicy(timeout_action=TimeoutAction.DELAY)
    yield "default_timeout_microseconds", "default_timeout_microseconds: 5", QueuePolicy(default_timeout_us=5)
    yield "allow_timeout_override", "allow_timeout_override: true", QueuePolicy(allow_timeout_override=True)
    yield "max_queue_size", "max_queue_size: 6", QueuePolicy(max_queue_size=6)


def _dynamic(config: ModelConfig) -> DynamicBatching:
    assert config.dynamic_batching is not None
    return config.dynamic_batching


def _sequences() -> Iterator[Row]:
    at, block = "sequence_batching", "max_batch_size: 8 sequence_batching { %s }"
    idle = block % "max_sequence_idle_microseconds: 7"
    yield honoured(f"{at}.max_sequence_idle_microseconds", idle, lambda c: _sequence(c).max_idle_us, 7)
    control = 'control_input { name: "c" control { kind: %s } }'
    start = block % (control % "CONTROL_SEQUENCE_END fp32_false_true: [ 0, 2 ]")
    yield honoured(f"{at}.control_input.name", start, lambda c: _sequence(c).controls[0].input_name, "c")
    yield honoured(f"{at}.control_input.control.kind", start, lambda c: _sequence(c).controls[0].kind, ControlKind.END)
    for field, pair in (("fp32", "0, 2"), ("int32", "0, 2"), ("bool", "false, true")):
        text = block % (control % f"CONTROL_SEQUENCE_END {field}_false_true: [ {pair} ]")
        values = (False, True) if field == "bool" else (0, 2)
        path = f"{at}.control_input.control.{field}_false_true"
        yield honoured(path, text, lambda c: _sequence(c).controls[0].false_true, values)
    of_id = block % (control % "CONTROL_SEQUENCE_CORRID data_type: TYPE_INT32")
    yield honoured(f"{at}.control_input.control.data_type", of_id, lambda c: _sequence(c).controls[0].datatype, INT32)
    direct = block % "direct { max_queue_delay_microseconds: 3 minimum_slot_utilization: 0.5 }"
    yield honoured(f"{at}.direct.max_queue_delay_microseconds", direct, _strategy, DirectStrategy(3, 0.5))
    yield honoured(f"{at}.direct.minimum_slot_utilization", direct, _strategy, DirectStrategy(3, 0.5))
    oldest = block % (
        "oldest { max_candidate_sequences: 5 preferred_batch_size: 2 max_queue_delay_microseconds: 3 "
        "preserve_ordering: true }"
    )
    for field in (
        "max_candidate_sequences",
        "preferred_batch_size",
        "max_queue_delay_microseconds",
        "preserve_ordering",
    ):
        yield honoured(f"{at}.oldest.{field}", oldest, _strategy, OldestStrategy(5, (2,), 3, True))
    yield from _states(f"{at}.state", block)
    yield refused(f"{at}.iterative_sequence", block % "iterative_sequence: true", f"{at}.iterative_sequence")


def _states(at: str, block: str) -> Iterator[Row]:
    state = block % 'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 2 ] %s }'
    yield honoured(f"{at}.input_name", state % "", lambda c: _sequence(c).states[0].input_name, "i")
    yield honoured(f"{at}.output_name", state % "", lambda c: _sequence(c).states[0].output_name, "o")
    yield honoured(f"{at}.data_type", state % "", lambda c: _sequence(c).states[0].datatype, FP32)
    yield honoured(f"{at}.dims", state % "", lambda c: _sequence(c).states[0].dims, (2,))
    initial = 'initial_state { name: "n" data_type: TYPE_FP32 dims: [ 2 ] %s }'
    of_file, of_zeros = state % (initial % 'data_file: "f"'), state % (initial % "zero_data: true")
    yield honoured(f"{at}.initial_state.name", of_file, lambda c: _initial(c).name, "n")
    yield honoured(f"{at}.initial_state.data_type", of_file, lambda c: _initial(c).datatype, FP32)
    yield honoured(f"{at}.initial_state.dims", of_file, lambda c: _initial(c).dims, (2,))
    yield honoured(f"{at}.initial_state.data_file", of_file, lambda c: _initial(c).file, "f")
    yield honoured(f"{at}.initial_state.zero_data", of_zeros, lambda c: _initial(c).file, "")
    same = "use_same_buffer_for_input_output"
    yield warned(f"{at}.{same}", state % f"{same}: true")
    yield refused(f"{at}.use_growable_memory", state % "use_growable_memory: true", "use_growable_memory")


def _sequence(config: ModelConfig) -> SequenceBatching:
    assert config.sequence_batching is not None
    return config.sequence_batching


def _strategy(config: ModelConfig) -> object:
    return _sequence(config).strategy


def _initial(config: ModelConfig) -> InitialState:
    initial = _sequence(config).states[0].initial
    assert initial is not None
    return initial


def _ensembles() -> Iterator[Row]:
    at = "ensemble_scheduling"
    ensemble = (
        'platform: "ensemble" input { name: "i" data_type: TYPE_FP32 dims: 1 } '
        'output { name: "o" data_type: TYPE_FP32 dims: 1 } ensemble_scheduling { %s step { model_name: "a" '
        'model_version: 2 input_map { key: "x" value: "i" } output_map { key: "y" value: "o" } %s } }'
    )
    plain = ensemble % ("", "")
    step = EnsembleStep("a", 2, {"x": "i"}, {"y": "o"})
    for field in ("model_name", "model_version", "input_map", "output_map"):
        yield honoured(f"{at}.step.{field}", plain, lambda c: c.ensemble_steps, (step,))
    elsewhere = ensemble % ("", 'model_namespace: "n"')
    yield refused(f"{at}.step.model_namespace", elsewhere, "model_namespace 'n' is not available")
    inflight = ensemble % ("max_inflight_requests: 3", "")
    yield warned(f"{at}.max_inflight_requests", inflight, f"{at}.max_inflight_requests is ignored")


def _optimization() -> Iterator[Row]:
    at, block = "optimization", "optimization { %s }"
    yield honoured(f"{at}.graph.level", block % "graph { level: -1 }", lambda c: c.optimization.graph_level, -1)
    yield warned(f"{at}.priority", block % "priority: PRIORITY_MAX", f"{at}.priority is ignored")
    yield honoured(f"{at}.cuda.graphs", block % "cuda { graphs: true }", lambda c: c.optimization.cuda_graphs, True)
    spec = 'cuda { graph_spec { batch_size: 1 input { key: "x" value { dim: 1 } } %s } }'
    bound = 'graph_lower_bound { batch_size: 1 input { key: "x" value { dim: 1 } } }'
    for field, text in (
        ("busy_wait_events", "cuda { busy_wait_events: true }"),
        ("output_copy_stream", "cuda { output_copy_stream: true }"),
        ("graph_spec.batch_size", spec % ""),
        ("graph_spec.input.dim", spec % ""),
        ("graph_spec.graph_lower_bound.batch_size", spec % bound),
        ("graph_spec.graph_lower_bound.input.dim", spec % bound),
    ):
        yield warned(f"{at}.cuda.{field}", block % text, f"{at}.cuda.{field.partition('.')[0]} is ignored")
    for kind in ("gpu", "cpu"):
        accelerator = f'{kind}_execution_accelerator {{ name: "openvino" parameters {{ key: "k" value: "v" }} }}'
        text = block % f"execution_accelerators {{ {accelerator} }}"
        for field in ("name", "parameters"):
            yield honoured(
                f"{at}.execution_accelerators.{kind}_execution_accelerator.{field}",
                text,
                lambda c: (*c.optimization.gpu_accelerators, *c.optimization.cpu_accelerators),
                (Accelerator("openvino", {"k": "v"}),),
            )
    for side in ("input", "output"):
        text = block % f"{side}_pinned_memory {{ enable: true }}"
        yield warned(f"{at}.{side}_pinned_memory.enable", text, f"{at}.{side}_pinned_memory is ignored")
    yield warned(f"{at}.gather_kernel_buffer_threshold", block % "gather_kernel_buffer_threshold: 1")
    yield warned(f"{at}.eager_batching", block % "eager_batching: true")


def _the_rest() -> Iterator[Row]:
    by_gpu = 'cc_model_filenames { key: "8.0" value: "a.onnx" }'
    # Where instances are on a GPU it is refused, elsewhere told to be ignored: both by ``device_notes``.
    yield refused("cc_model_filenames", by_gpu, "cc_model_filenames is not available")
    yield honoured("metric_tags", 'metric_tags { key: "k" value: "v" }', lambda c: c.metric_tags, {"k": "v"})
    parameter = 'parameters { key: "execution_mode" value { string_value: "1" } }'
    yield honoured("parameters.string_value", parameter, lambda c: c.parameters, {"execution_mode": "1"})
    yield from _warmup()
    library = 'model_operations { op_library_filename: "libops.so" }'
    yield honoured("model_operations.op_library_filename", library, lambda c: c.op_library_filenames, ("libops.so",))
    decoupled = "model_transaction_policy { decoupled: true }"
    yield refused("model_transaction_policy.decoupled", decoupled, "model_transaction_policy.decoupled must be false")
    agent = 'model_repository_agents { agents { name: "checksum" parameters { key: "k" value: "v" } } }'
    for field in ("name", "parameters"):
        yield refused(f"model_repository_agents.agents.{field}", agent, "repository agent 'checksum' is not available")
    yield honoured("response_cache.enable", "response_cache { enable: true }", lambda c: c.response_cache, True)
    metric = 'metric_identifier { family: "nv_inference_first_response_histogram_ms" }'
    control = f"metric_control {{ {metric} histogram_options {{ buckets: [ 0.5, 100 ] }} }}"
    for field in ("metric_identifier.family", "histogram_options.buckets"):
        yield honoured(
            f"model_metrics.metric_control.{field}",
            f"model_metrics {{ {control} }}",
            lambda c: c.first_response_bounds_ms,
            (0.5, 100.0),
        )


def _warmup() -> Iterator[Row]:
    at = "model_warmup"
    sample = (
        'max_batch_size: 4 model_warmup { name: "s" batch_size: 2 count: 3 inputs { key: "x" value '
        "{ data_type: TYPE_FP32 dims: 4 %s } } }"
    )
    zeros = sample % "zero_data: true"
    yield honoured(f"{at}.name", zeros, lambda c: c.warmup[0].name, "s")
    yield honoured(f"{at}.batch_size", zeros, lambda c: c.warmup[0].batch_size, 2)
    yield honoured(f"{at}.count", zeros, lambda c: c.warmup[0].count, 3)
    yield honoured(f"{at}.inputs.data_type", zeros, lambda c: c.warmup[0].inputs[0].spec.datatype, FP32)
    yield honoured(f"{at}.inputs.dims", zeros, lambda c: c.warmup[0].inputs[0].spec.dims, (4,))
    yield honoured(f"{at}.inputs.zero_data", zeros, lambda c: c.warmup[0].inputs[0].data, WarmupData.ZERO)
    at_random = sample % "random_data: true"
    yield honoured(f"{at}.inputs.random_data", at_random, lambda c: c.warmup[0].inputs[0].data, WarmupData.RANDOM)
    of_file = sample % 'input_data_file: "f"'
    yield honoured(f"{at}.inputs.input_data_file", of_file, lambda c: c.warmup[0].inputs[0].file, "f")
