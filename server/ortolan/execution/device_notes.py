"""What a configuration says of devices that the model's instances are not on: a sentence each, for operators. Pure."""

from collections.abc import Collection, Iterator, Sequence

from ortolan.errors import InvalidArgument
from ortolan.execution.cuda_graphs import capturing
from ortolan.execution.devices import Placement, provider_name
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import Accelerator, InstanceKind, ModelConfig

_CUDA = "CUDAExecutionProvider"


def refuse_other_models(config: ModelConfig, places: Sequence[Placement]) -> None:
    """Raises InvalidArgument where Triton would load another model than we: a file for each kind of GPU."""
    if config.cc_model_filenames and _are_on(InstanceKind.GPU, places):
        raise InvalidArgument(
            f"model '{config.name}': cc_model_filenames is not available: every GPU would load "
            f"'{config.default_model_filename or 'model.onnx'}'. Leave it out if that is right for all of them; else "
            "make a model of each file, with the GPUs that it is for in its instance_group"
        )


def device_notes(
    config: ModelConfig, settings: SessionSettings, places: Sequence[Placement], providers: Collection[str]
) -> tuple[str, ...]:
    """What of ``config`` has no effect for instances at ``places``, whose sessions have the execution ``providers``."""
    notes = [
        *_accelerators(config, settings, places, providers),
        *_cuda_parameters(settings, places),
        *_arenas(settings, places),
    ]
    if config.optimization.cuda_graphs and not any(capturing(place.providers) for place in places):
        notes.append("optimization.cuda.graphs is ignored: no instance of the model is on CUDA or TensorRT")
    if config.cc_model_filenames and not _are_on(InstanceKind.GPU, places):
        notes.append("cc_model_filenames is ignored: no instance of the model is on a GPU")
    return tuple(notes)


def _accelerators(
    config: ModelConfig, settings: SessionSettings, places: Sequence[Placement], providers: Collection[str]
) -> Iterator[str]:
    optimization = config.optimization
    if settings.execution_provider:
        if optimization.gpu_accelerators or optimization.cpu_accelerators:
            yield "optimization.execution_accelerators is ignored: the parameter execution_provider says where it runs"
        names = [name.strip() for name in settings.execution_provider.split(",")]
        yield from _left_out(config, "the execution_provider", [Accelerator(name) for name in names], providers)
        return
    for field, own, kind in (
        ("gpu_execution_accelerator", optimization.gpu_accelerators, InstanceKind.GPU),
        ("cpu_execution_accelerator", optimization.cpu_accelerators, InstanceKind.CPU),
    ):
        if own and not _are_on(kind, places):
            where = "a GPU" if kind is InstanceKind.GPU else "the CPU"
            listed = ", ".join(f"'{accelerator.name}'" for accelerator in own)
            yield f"{field} {listed} is ignored: no instance of the model is on {where}"
        else:
            yield from _left_out(config, field, own, providers)


def _left_out(
    config: ModelConfig, field: str, accelerators: Sequence[Accelerator], providers: Collection[str]
) -> Iterator[str]:
    """What did not come up, which only happens where a fallback is allowed."""
    for accelerator in accelerators:
        if provider_name(accelerator.name, config.name) not in providers:
            yield f"{field} '{accelerator.name}' did not come up: as fallback allows, the model runs without it"


def _cuda_parameters(settings: SessionSettings, places: Sequence[Placement]) -> Iterator[str]:
    on_cuda = any(provider.name == _CUDA for place in places for provider in place.providers)
    if settings.provider_options and not on_cuda:
        listed = ", ".join(f"'{key}'" for key in settings.provider_options)
        several = len(settings.provider_options) > 1
        subject = f"its parameters {listed} have" if several else f"its parameter {listed} has"
        yield f"{subject} no effect: no instance of the model is on CUDA"


def _arenas(settings: SessionSettings, places: Sequence[Placement]) -> Iterator[str]:
    asked = settings.arena_shrinkage.split(";") if settings.arena_shrinkage else []
    there = {arena for place in places for arena in place.arenas(settings.memory_arena)}
    for arena in asked:
        if arena not in there:
            reason = "no instance of the model has such an arena" if settings.memory_arena else "enable_mem_arena is 0"
            yield f"memory.enable_memory_arena_shrinkage '{arena}' has no effect: {reason}"


def _are_on(kind: InstanceKind, places: Sequence[Placement]) -> bool:
    return any(place.kind is kind for place in places)
