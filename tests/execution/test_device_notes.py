"""What a configuration asks of devices that its instances are not on is told, by name."""

import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.device_notes import device_notes, refuse_other_models
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session_settings import settings_of
from ortolan.repository.config_file import parse_text
from ortolan.repository.model_config import InstanceKind

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
ON_CPU = (Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),)),)
ON_GPU = (Placement("m_0_gpu1", InstanceKind.GPU, 1, (Provider(CUDA), Provider(CPU_PROVIDER))),)


def accelerated(kind: str, name: str) -> str:
    return f'optimization {{ execution_accelerators {{ {kind}_execution_accelerator {{ name: "{name}" }} }} }}'


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def notes(text: str, places: tuple[Placement, ...], providers: set[str] | None = None) -> tuple[str, ...]:
    config = parse_text(text, "m")
    came_up = {provider.name for place in places for provider in place.providers}
    return device_notes(config, settings_of(config)[0], places, came_up if providers is None else providers)


SHRINKAGE = "memory.enable_memory_arena_shrinkage"


@pytest.mark.parametrize(
    ("text", "places", "said"),
    [
        ("", ON_CPU, ()),
        (accelerated("gpu", "tensorrt"), ON_CPU, ("gpu_execution_accelerator 'tensorrt' is ignored: no instance",)),
        (accelerated("cpu", "openvino"), ON_GPU, ("cpu_execution_accelerator 'openvino' is ignored: no instance",)),
        (accelerated("gpu", "cuda"), ON_GPU, ()),
        (accelerated("gpu", "cuda"), ON_CPU + ON_GPU, ()),
        (
            accelerated("gpu", "cuda") + parameter("execution_provider", "cpu"),
            ON_GPU,
            ("optimization.execution_accelerators is ignored: the parameter execution_provider says",),
        ),
        (parameter("gpu_mem_limit", "9"), ON_CPU, ("its parameter 'gpu_mem_limit' has no effect: no instance",)),
        (
            parameter("gpu_mem_limit", "9") + parameter("cudnn_conv_algo_search", "0"),
            ON_CPU,
            ("its parameters 'cudnn_conv_algo_search', 'gpu_mem_limit' have no effect: no instance",),
        ),
        (parameter("gpu_mem_limit", "9"), ON_GPU, ()),
        (parameter(SHRINKAGE, "cpu:0"), ON_CPU, ()),
        (parameter(SHRINKAGE, "cpu:0;gpu:1"), ON_GPU, ()),
        (parameter(SHRINKAGE, "cpu:0;gpu:0"), ON_CPU, (f"{SHRINKAGE} 'gpu:0' has no effect: no instance",)),
        (parameter(SHRINKAGE, "gpu:0"), ON_GPU, (f"{SHRINKAGE} 'gpu:0' has no effect: no instance",)),
        (
            parameter(SHRINKAGE, "cpu:0") + parameter("enable_mem_arena", "0"),
            ON_CPU,
            (f"{SHRINKAGE} 'cpu:0' has no effect: enable_mem_arena is 0",),
        ),
        ('cc_model_filenames { key: "8.0" value: "a.onnx" }', ON_CPU, ("cc_model_filenames is ignored",)),
    ],
)
def test_what_has_no_effect_where_the_instances_are_is_named(
    text: str, places: tuple[Placement, ...], said: tuple[str, ...]
) -> None:
    found = notes(text, places)
    assert len(found) == len(said), found
    assert all(note.startswith(start) for note, start in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (accelerated("gpu", "tensorrt"), "gpu_execution_accelerator 'tensorrt' did not come up"),
        (parameter("execution_provider", "tensorrt, cuda"), "the execution_provider 'tensorrt' did not come up"),
    ],
)
def test_a_provider_that_a_fallback_leaves_out_is_named(text: str, named: str) -> None:
    (note,) = notes(text + parameter("fallback", "allow"), ON_GPU, {CUDA, CPU_PROVIDER})
    assert note.startswith(named)


def test_a_file_for_each_kind_of_gpu_is_refused_only_where_one_would_be_loaded() -> None:
    config = parse_text('cc_model_filenames { key: "8.0" value: "a.onnx" } default_model_filename: "b.onnx"', "m")
    refuse_other_models(config, ON_CPU)
    with pytest.raises(InvalidArgument, match=r"cc_model_filenames is not available: every GPU would load 'b\.onnx'"):
        refuse_other_models(config, ON_GPU)
    refuse_other_models(parse_text("", "m"), ON_GPU)
