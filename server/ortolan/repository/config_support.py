"""What a model configuration may ask for that this server does not do: refused where the answers would differ."""

from collections.abc import Iterator
from typing import Any

from ortolan.errors import InvalidArgument

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
GRAPH_LEVELS = (-1, 0, 1, 2)
"""What optimization.graph.level may be; Triton takes any other number for 0."""
FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
"""The metric whose buckets a configuration may choose."""
ENSEMBLE = "ensemble"
"""The platform of a model that is a graph of other models."""


def refuse_unsupported(message: Any, model_name: str) -> None:
    """Raises InvalidArgument when the ``ModelConfig`` message needs what this server cannot do; the text names it."""
    for reason in _reasons_to_refuse(message):
        raise InvalidArgument(f"model '{model_name}': {reason}")


def platform_of(message: Any) -> str:
    """The platform that the ``ModelConfig`` message names; that of an ensemble need not be written."""
    return str(message.platform) or (ENSEMBLE if message.HasField("ensemble_scheduling") else "")


def warnings(message: Any) -> tuple[str, ...]:
    """What the ``ModelConfig`` message asks for and is not done, without changing an answer: a sentence for each."""
    found = [*_general_warnings(message), *_instance_warnings(message), *_optimization_warnings(message)]
    return tuple(dict.fromkeys(found))


def _reasons_to_refuse(message: Any) -> Iterator[str]:
    yield from _unavailable_schedulers(message)
    yield from _unavailable_runtimes(message)
    if message.model_transaction_policy.decoupled:
        yield "model_transaction_policy.decoupled must be false: an ONNX model gives one response to each request"
    for agent in message.model_repository_agents.agents:
        # A checksum that is declared and not verified would be worse than none: every agent is refused.
        yield (
            f"repository agent '{agent.name}' is not available: leave model_repository_agents out; SHA256SUMS beside "
            "config.pbtxt, as sha256sum writes it, says what the model's files must be"
        )


def _unavailable_schedulers(message: Any) -> Iterator[str]:
    scheduling = message.WhichOneof("scheduling_choice")
    yield from _misplaced_ensemble_fields(message)
    if scheduling == "sequence_batching" and message.response_cache.enable:
        yield "response_cache cannot be enabled with sequence_batching: the same request has another answer each time"
    if scheduling == "sequence_batching":
        yield from _unavailable_in_sequences(message)


def _unavailable_in_sequences(message: Any) -> Iterator[str]:
    batching = message.sequence_batching
    if batching.iterative_sequence:
        yield "sequence_batching.iterative_sequence is not available: an ONNX model gives one response to each request"
    for state in batching.state:
        if state.use_growable_memory:
            yield (
                f"sequence_batching.state '{state.input_name}': use_growable_memory is not available: leave it out; a "
                "state of variable dims may grow without it"
            )


def _misplaced_ensemble_fields(message: Any) -> Iterator[str]:
    """What an ensemble must not say because it has no graph and no instances, and others because they are none."""
    if platform_of(message) != ENSEMBLE:
        if message.HasField("ensemble_scheduling"):
            yield f"ensemble_scheduling cannot be set for a model whose platform is not {ENSEMBLE}"
        return
    if not message.HasField("ensemble_scheduling"):
        yield f"ensemble_scheduling must be set for a model whose platform is {ENSEMBLE}"
    if message.backend:
        yield f"backend must not be set for an ensemble, got '{message.backend}': leave it out"
    for name in ("instance_group", "model_warmup", "batch_input", "batch_output"):
        if getattr(message, name):
            yield f"{name} must not be specified for an ensemble: it belongs to the models of its steps"
    if message.HasField("optimization"):
        yield "optimization must not be specified for an ensemble: it belongs to the models of its steps"
    for step in message.ensemble_scheduling.step:
        if step.model_namespace:
            yield f"ensemble_scheduling: model_namespace '{step.model_namespace}' is not available: leave it out"


def _unavailable_runtimes(message: Any) -> Iterator[str]:
    if message.platform not in ("", PLATFORM, ENSEMBLE):
        yield f"platform '{message.platform}' is not available: {_runtime_to_write(message.platform)}"
    if message.backend not in ("", BACKEND):
        yield f"backend '{message.backend}' is not available: {_runtime_to_write(message.backend)}"


def _runtime_to_write(given: str) -> str:
    """What to write for a runtime that is not here, or that is ours by another name."""
    advice = f'write platform: "{PLATFORM}" or backend: "{BACKEND}", or leave both out'
    if "onnx" in given.lower() or given.lower() == "ort":
        return f"for an ONNX model {advice}"
    return f"this server runs ONNX models; export the model to ONNX and {advice}"


def _general_warnings(message: Any) -> Iterator[str]:
    if message.ensemble_scheduling.max_inflight_requests:
        yield "ensemble_scheduling.max_inflight_requests is ignored: no step gives more than one response to a request"
    if message.runtime:
        yield f"runtime '{message.runtime}' is ignored: models run in the server's own ONNX Runtime"
    yield from _unknown_metrics(message.model_metrics)
    if any(state.use_same_buffer_for_input_output for state in message.sequence_batching.state):
        yield "sequence_batching.state.use_same_buffer_for_input_output is ignored: a state's output is copied"
    if platform_of(message) == ENSEMBLE and any(tensor.allow_ragged_batch for tensor in message.input):
        yield "allow_ragged_batch is ignored in an ensemble: it belongs to the models of its steps"
    for tensor in (*message.input, *message.output):
        for name in ("is_shape_tensor", "is_non_linear_format_io"):
            if getattr(tensor, name):
                yield f"{name} of '{tensor.name}' is ignored: it is for TensorRT's own models"
    if platform_of(message) == ENSEMBLE:
        yield from _without_a_graph(message)


def _unknown_metrics(metrics: Any) -> Iterator[str]:
    families = [control.metric_identifier.family for control in metrics.metric_control]
    for family in (family for family in families if family != FIRST_RESPONSE):
        yield f"model_metrics of family '{family}' is ignored: {FIRST_RESPONSE} is the one with buckets to choose"


def _without_a_graph(message: Any) -> Iterator[str]:
    """What an ensemble may say, as in Triton, and has no use for."""
    files = {
        "default_model_filename": message.default_model_filename,
        "cc_model_filenames": message.cc_model_filenames,
        "model_operations": message.model_operations.op_library_filename,
    }
    for name in (name for name, given in files.items() if given):
        yield f"{name} is ignored in an ensemble: it belongs to the models of its steps"
    for key in sorted(message.parameters):
        if key not in ("oversize_requests", "golden_rtol", "golden_atol"):
            yield f"its parameter '{key}' is ignored: an ensemble has no session of its own"


def _instance_warnings(message: Any) -> Iterator[str]:
    for group in message.instance_group:
        if group.host_policy:
            yield "instance_group.host_policy is ignored: pin the server's process to cores instead"
        if group.passive:
            yield "instance_group.passive is ignored: the instances take requests"
        if group.secondary_devices:
            yield "instance_group.secondary_devices is ignored: there are none"
        if group.profile:
            yield "instance_group.profile is ignored: set TensorRT profiles as parameters of the accelerator"


def _optimization_warnings(message: Any) -> Iterator[str]:
    optimization = message.optimization
    if optimization.graph.level not in GRAPH_LEVELS:
        yield (
            f"optimization.graph.level {optimization.graph.level} is not one of {', '.join(map(str, GRAPH_LEVELS))}: "
            "it means 0, all optimisations"
        )
    for field in ("busy_wait_events", "output_copy_stream", "graph_spec"):
        if getattr(optimization.cuda, field):
            yield f"optimization.cuda.{field} is ignored: graphs are captured for shapes as they come (docs/gpu.md)"
    if optimization.priority:
        yield "optimization.priority is ignored: all models have the same priority"
    if optimization.gather_kernel_buffer_threshold:
        yield "optimization.gather_kernel_buffer_threshold is ignored: batches are gathered on the CPU"
    if optimization.eager_batching:
        yield "optimization.eager_batching is ignored: a batch is gathered when an instance is free"
    if optimization.input_pinned_memory.enable:
        yield "optimization.input_pinned_memory is ignored: on NVIDIA GPUs large inputs go through pinned memory anyway"
    if optimization.output_pinned_memory.enable:
        yield "optimization.output_pinned_memory is ignored: on NVIDIA GPUs outputs go through pinned memory anyway"
