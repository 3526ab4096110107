"""What a model configuration may ask for that this server does not do: refused where the answers would differ."""

from collections.abc import Iterator
from typing import Any

from ortolan.errors import InvalidArgument

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"


def refuse_unsupported(message: Any, model_name: str) -> None:
    """Raises InvalidArgument when the ``ModelConfig`` message needs what this server cannot do; the text names it."""
    for reason in _reasons_to_refuse(message):
        raise InvalidArgument(f"model '{model_name}': {reason}")


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
    if message.platform == "ensemble" or scheduling == "ensemble_scheduling":
        yield "ensemble_scheduling is not available: call the models one after another from the client"
    if scheduling == "sequence_batching":
        yield "sequence_batching is not available: keep the state in the client and send it as an input"


def _unavailable_runtimes(message: Any) -> Iterator[str]:
    if message.platform not in ("", PLATFORM):
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
    if message.response_cache.enable:
        yield "response_cache is not done: every request is executed"
    if message.cc_model_filenames:
        yield "cc_model_filenames is ignored: every GPU loads default_model_filename"
    if message.model_metrics.metric_control:
        yield "model_metrics is ignored: there are no histograms"
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
