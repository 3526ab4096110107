"""What a model configuration may ask for that this server does not do: refused where the answers would differ."""

from collections.abc import Iterator
from typing import Any

from ortolan.errors import InvalidArgument

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
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
    yield from _unavailable_tensors(message)
    if message.model_transaction_policy.decoupled:
        yield "model_transaction_policy.decoupled must be false: an ONNX model gives one response to each request"
    for agent in message.model_repository_agents.agents:
        # A checksum that is declared and not verified would be worse than none: every agent is refused.
        yield f"repository agent '{agent.name}' is not available: leave model_repository_agents out"


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
        yield (
            f"platform '{message.platform}' is not available: this server runs ONNX models; export the model to ONNX "
            f'and write platform: "{PLATFORM}", or leave it out'
        )
    if message.backend not in ("", BACKEND):
        yield (
            f"backend '{message.backend}' is not available: this server runs ONNX models; export the model to ONNX "
            f'and write backend: "{BACKEND}", or leave it out'
        )


def _unavailable_tensors(message: Any) -> Iterator[str]:
    if message.batch_input:
        yield "batch_input is not available: send the tensor as an ordinary input"
    if message.batch_output:
        yield "batch_output is not available: declare the tensor as an ordinary output"
    for tensor in message.input:
        if tensor.allow_ragged_batch:
            yield (
                f"input '{tensor.name}': allow_ragged_batch is not available: leave it out; requests of different "
                "shapes are then executed apart"
            )


def _general_warnings(message: Any) -> Iterator[str]:
    if message.ensemble_scheduling.max_inflight_requests:
        yield "ensemble_scheduling.max_inflight_requests is ignored: no step gives more than one response to a request"
    if message.cc_model_filenames:
        yield "cc_model_filenames is ignored: every GPU loads default_model_filename"
    if message.model_metrics.metric_control:
        yield "model_metrics is ignored: there are no histograms"
    if any(state.use_same_buffer_for_input_output for state in message.sequence_batching.state):
        yield "sequence_batching.state.use_same_buffer_for_input_output is ignored: a state's output is copied"
    for tensor in (*message.input, *message.output):
        if tensor.is_shape_tensor or tensor.is_non_linear_format_io:
            yield "is_shape_tensor and is_non_linear_format_io are ignored: they are TensorRT's"


def _instance_warnings(message: Any) -> Iterator[str]:
    for group in message.instance_group:
        if group.rate_limiter.resources or group.rate_limiter.priority:
            yield "instance_group.rate_limiter is ignored: instances run whenever there is work"
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
    if optimization.HasField("cuda"):
        yield "optimization.cuda is ignored: set the options as parameters of the cuda accelerator"
    if optimization.priority:
        yield "optimization.priority is ignored: all models have the same priority"
    if optimization.gather_kernel_buffer_threshold:
        yield "optimization.gather_kernel_buffer_threshold is ignored: batches are gathered on the CPU"
    if optimization.eager_batching:
        yield "optimization.eager_batching is ignored: a batch is gathered when an instance is free"
    if optimization.input_pinned_memory.enable:
        yield "optimization.input_pinned_memory is ignored: inputs are not staged in pinned memory"
    if optimization.output_pinned_memory.enable:
        yield "optimization.output_pinned_memory is ignored: outputs are not staged in pinned memory"
