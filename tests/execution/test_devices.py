"""Where instances go, on machines that we invent."""

from pathlib import Path

import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.devices import (
    CPU_PROVIDER,
    DeviceInventory,
    Placement,
    Provider,
    count_gpus,
    known_devices,
    places_of,
    require_device,
    take_inventory,
    usable_cores,
)
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import Accelerator, InstanceGroup, InstanceKind, ModelConfig, Optimization

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
MIGRAPHX = "MIGraphXExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

ONLY_CPU = DeviceInventory()
TWO_GPUS = DeviceInventory((CUDA, CPU_PROVIDER), (0, 1), 8)
WITH_TENSORRT = DeviceInventory((TENSORRT, CUDA, CPU_PROVIDER), (0,), 8)
AMD = DeviceInventory((MIGRAPHX, CPU_PROVIDER), (0,), 8)
GPU_WITHOUT_PROVIDER = DeviceInventory((CPU_PROVIDER,), (0,), 8)
PROVIDER_WITHOUT_GPU = DeviceInventory((CUDA, CPU_PROVIDER), (), 8)
INTEL = DeviceInventory((OPENVINO, CPU_PROVIDER), (), 8)

CPU_GROUP = InstanceGroup("c", InstanceKind.CPU, 2)
GPU_GROUP = InstanceGroup("g", InstanceKind.GPU, 1)


def model(*groups: InstanceGroup, gpu: tuple[Accelerator, ...] = (), cpu: tuple[Accelerator, ...] = ()) -> ModelConfig:
    return ModelConfig("m", instance_groups=groups, optimization=Optimization(0, gpu, cpu))


def places(
    config: ModelConfig, inventory: DeviceInventory, device: str = "auto", settings: SessionSettings | None = None
) -> tuple[Placement, ...]:
    return places_of(config, settings or SessionSettings(), inventory, device)


def chain(
    config: ModelConfig, inventory: DeviceInventory, device: str = "auto", settings: SessionSettings | None = None
) -> list[tuple[str, dict[str, str]]]:
    """The providers of the first placement, with their options."""
    return [
        (provider.name, dict(provider.options)) for provider in places(config, inventory, device, settings)[0].providers
    ]


def test_cpu_instances_are_numbered_within_their_group() -> None:
    first, second = places(model(CPU_GROUP), ONLY_CPU)
    assert (first.instance_name, second.instance_name) == ("c_0", "c_1")
    assert first.device == "CPU"
    assert first.providers == (Provider(CPU_PROVIDER),)


def test_a_gpu_group_has_its_instances_on_each_of_its_gpus() -> None:
    found = places(model(InstanceGroup("g", InstanceKind.GPU, 2, (0, 1)), CPU_GROUP), TWO_GPUS)
    names = ["g_0_gpu0", "g_1_gpu0", "g_0_gpu1", "g_1_gpu1", "c_0", "c_1"]
    assert [place.instance_name for place in found] == names
    assert [place.device for place in found] == ["GPU 0", "GPU 0", "GPU 1", "GPU 1", "CPU", "CPU"]
    assert [place.providers[0].options.get("device_id") for place in found] == ["0", "0", "1", "1", None, None]


def test_instances_on_gpus_can_be_told_apart_whatever_options_their_providers_have() -> None:
    """Each has a session of its own, which is looked up by its placement."""
    found = places(model(GPU_GROUP), TWO_GPUS)
    assert all(place.providers[0].options for place in found)
    assert len({*found}) == 2


def test_a_gpu_group_that_names_no_gpu_has_all() -> None:
    assert [place.device_id for place in places(model(GPU_GROUP), TWO_GPUS)] == [0, 1]


@pytest.mark.parametrize(
    ("group", "inventory", "text"),
    [
        (GPU_GROUP, ONLY_CPU, "wants KIND_GPU, but no usable GPU was found"),
        (GPU_GROUP, GPU_WITHOUT_PROVIDER, "no usable GPU was found"),  # no provider that drives it
        (GPU_GROUP, PROVIDER_WITHOUT_GPU, "no usable GPU was found"),
        (InstanceGroup("g", InstanceKind.GPU, 1, (2,)), TWO_GPUS, r"on \[2\], but the GPUs here are \[0, 1\]"),
        (InstanceGroup("g", InstanceKind.GPU, 1, (0, 7)), TWO_GPUS, r"the GPUs here are \[0, 1\]"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(group: InstanceGroup, inventory: DeviceInventory, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"instance group 'g' of model 'm' .*{text}"):
        places(model(group), inventory)


@pytest.mark.parametrize(
    ("config", "inventory", "device", "expected"),
    [
        (model(GPU_GROUP), TWO_GPUS, "auto", [CUDA, CPU_PROVIDER]),
        (model(GPU_GROUP), AMD, "auto", [MIGRAPHX, CPU_PROVIDER]),
        (model(GPU_GROUP), WITH_TENSORRT, "auto", [CUDA, CPU_PROVIDER]),  # TensorRT only where it is asked for
        (model(GPU_GROUP), WITH_TENSORRT, "tensorrt", [TENSORRT, CUDA, CPU_PROVIDER]),  # by the operator
        (model(GPU_GROUP, gpu=(Accelerator("cuda"),)), WITH_TENSORRT, "tensorrt", [CUDA, CPU_PROVIDER]),
        (model(GPU_GROUP, gpu=(Accelerator("tensorrt"),)), WITH_TENSORRT, "auto", [TENSORRT, CUDA, CPU_PROVIDER]),
        (model(GPU_GROUP, gpu=(Accelerator("TensorRT"),)), WITH_TENSORRT, "auto", [TENSORRT, CUDA, CPU_PROVIDER]),
        (  # CUDA comes after TensorRT once, not twice
            model(GPU_GROUP, gpu=(Accelerator("tensorrt"), Accelerator("cuda"))),
            WITH_TENSORRT,
            "auto",
            [TENSORRT, CUDA, CPU_PROVIDER],
        ),
        (model(CPU_GROUP), WITH_TENSORRT, "tensorrt", [CPU_PROVIDER]),  # KIND_CPU is the model's own word
        (model(CPU_GROUP), INTEL, "auto", [CPU_PROVIDER]),
        (model(CPU_GROUP), INTEL, "openvino", [OPENVINO, CPU_PROVIDER]),
        (model(CPU_GROUP, cpu=(Accelerator("openvino"),)), INTEL, "auto", [OPENVINO, CPU_PROVIDER]),
        (model(CPU_GROUP, cpu=(Accelerator("cpu"),)), INTEL, "openvino", [CPU_PROVIDER]),
    ],
)
def test_providers_are_tried_in_the_order_that_was_asked_for(
    config: ModelConfig, inventory: DeviceInventory, device: str, expected: list[str]
) -> None:
    assert [name for name, _ in chain(config, inventory, device)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda", [CUDA, CPU_PROVIDER]),
        ("CUDAExecutionProvider", [CUDA, CPU_PROVIDER]),
        ("TensorRT, CUDA ,cpu", [TENSORRT, CUDA, CPU_PROVIDER]),
        ("cpu", [CPU_PROVIDER]),
    ],
)
def test_the_models_own_parameter_names_its_providers(text: str, expected: list[str]) -> None:
    found = chain(model(CPU_GROUP), WITH_TENSORRT, settings=SessionSettings(execution_provider=text))
    assert [name for name, _ in found] == expected


def test_a_provider_that_this_build_does_not_have_is_refused_naming_what_there_is() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        chain(model(CPU_GROUP), INTEL, settings=SessionSettings(execution_provider="cuda"))
    assert f"asks for {CUDA}" in refusal.value.message
    assert f"it has {OPENVINO}, {CPU_PROVIDER}" in refusal.value.message
    assert "'fallback' to 'allow'" in refusal.value.message


def test_with_fallback_a_model_runs_on_what_there_is() -> None:
    settings = SessionSettings(execution_provider="tensorrt,openvino", allow_fallback=True)
    assert [name for name, _ in chain(model(CPU_GROUP), INTEL, settings=settings)] == [OPENVINO, CPU_PROVIDER]


def test_an_unknown_accelerator_is_refused_naming_the_known() -> None:
    with pytest.raises(InvalidArgument, match=r"unknown Execution Accelerator 'warp' is requested for model 'm'.*cuda"):
        chain(model(CPU_GROUP), INTEL, settings=SessionSettings(execution_provider="warp"))
    with pytest.raises(InvalidArgument, match="unknown Execution Accelerator 'warp'"):
        chain(model(GPU_GROUP, gpu=(Accelerator("warp"),)), TWO_GPUS)


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, {}),
        ({"precision_mode": "FP32"}, {}),
        ({"precision_mode": "FP16"}, {"trt_fp16_enable": "True"}),
        ({"precision_mode": "BF16"}, {"trt_bf16_enable": "True"}),
        ({"precision_mode": "INT8"}, {"trt_int8_enable": "True"}),
        ({"max_workspace_size_bytes": "1073741824"}, {"trt_max_workspace_size": "1073741824"}),
        ({"int8_calibration_table_name": "t"}, {"trt_int8_calibration_table_name": "t"}),
        ({"int8_use_native_calibration_table": "1"}, {"trt_int8_use_native_calibration_table": "True"}),
        ({"trt_engine_cache_enable": "1"}, {"trt_engine_cache_enable": "True"}),
        ({"trt_builder_optimization_level": "5"}, {"trt_builder_optimization_level": "5"}),
    ],
)
@pytest.mark.parametrize("name", ["tensorrt", "TensorRT", "TensorrtExecutionProvider"])
def test_tensorrt_options_have_tritons_names(parameters: dict[str, str], options: dict[str, str], name: str) -> None:
    config = model(GPU_GROUP, gpu=(Accelerator(name, parameters),))
    assert chain(config, WITH_TENSORRT)[0] == (TENSORRT, options | {"device_id": "0"})


@pytest.mark.parametrize(
    ("accelerator", "text"),
    [
        (Accelerator("tensorrt", {"precision_mode": "FP4"}), "precision_mode .* expects one of FP32, FP16, BF16, INT8"),
        (Accelerator("tensorrt", {"trt_fp61_enable": "1"}), r"unknown option .*did you mean 'trt_fp16_enable'\?"),
        (Accelerator("tensorrt", {"trt_builder_optimization_level": "6"}), "a whole number from 0 to 5, got '6'"),
        (Accelerator("cuda", {"use_tf32": "yes"}), "option of accelerator 'cuda' of model 'm' 'use_tf32' expects one"),
        (Accelerator("cuda", {"device_id": "1"}), "unknown option"),  # the instance group says where
    ],
)
def test_a_wrong_option_of_an_accelerator_is_refused(accelerator: Accelerator, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        chain(model(GPU_GROUP, gpu=(accelerator,)), WITH_TENSORRT)


def test_cuda_has_tritons_parameters_and_its_own_options() -> None:
    settings = SessionSettings(provider_options={"gpu_mem_limit": "5", "arena_extend_strategy": "1"})
    config = model(GPU_GROUP, gpu=(Accelerator("cuda", {"use_tf32": "0", "gpu_mem_limit": "7"}),))
    expected = {"gpu_mem_limit": "7", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0", "device_id": "0"}
    assert chain(config, TWO_GPUS, settings=settings)[0] == (CUDA, expected)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 3),  # not set: all
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("2,0", 2),
        ("0,1,2,3,4", 3),  # more than there are
        ("GPU-8932f937-d72c,1", 2),
        ("0,-1,1,2", 1),  # nothing counts after an entry that is none
        (" 0 , 1 ", 2),
    ],
)
def test_cuda_visible_devices_hides_gpus(tmp_path: Path, visible: str | None, expected: int) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_gpus(visible, tmp_path) == expected


def test_amd_gpus_count_only_with_their_driver(tmp_path: Path) -> None:
    (tmp_path / "dri").mkdir()
    (tmp_path / "dri" / "renderD128").touch()
    assert count_gpus(None, tmp_path) == 0
    (tmp_path / "kfd").touch()
    assert count_gpus(None, tmp_path) == 1
    assert count_gpus("", tmp_path) == 1  # CUDA's variable is not theirs


@pytest.mark.parametrize("device", ["cpu", "openvino", "xnnpack"])
def test_an_operator_who_asks_for_no_gpu_gets_none(device: str) -> None:
    assert take_inventory([CUDA, CPU_PROVIDER], None, device).gpus == ()


@pytest.mark.parametrize(
    ("providers", "gpus", "lacks"),
    [
        ((CUDA, CPU_PROVIDER), (), True),
        ((CUDA, CPU_PROVIDER), (0,), False),
        ((CPU_PROVIDER,), (), False),
        (("DmlExecutionProvider", CPU_PROVIDER), (), False),  # whose GPUs the system does not show
    ],
)
def test_a_build_for_gpus_lacks_them_where_there_are_none(
    providers: tuple[str, ...], gpus: tuple[int, ...], lacks: bool
) -> None:
    assert DeviceInventory(providers, gpus).lacks_gpus is lacks


def test_the_inventory_is_of_this_machine() -> None:
    inventory = take_inventory([CPU_PROVIDER], None)
    assert inventory.providers == (CPU_PROVIDER,)
    assert inventory.usable_gpus == ()
    assert inventory.cores == usable_cores() >= 1


LEFT_OPEN = model()
ALLOWED = SessionSettings(allow_fallback=True)


@pytest.mark.parametrize(
    ("config", "settings", "inventory", "device"),
    [
        (LEFT_OPEN, SessionSettings(), ONLY_CPU, "auto"),
        (LEFT_OPEN, SessionSettings(), ONLY_CPU, "cpu"),
        (LEFT_OPEN, SessionSettings(), INTEL, "openvino"),
        (LEFT_OPEN, SessionSettings(), TWO_GPUS, "cuda"),
        (LEFT_OPEN, ALLOWED, ONLY_CPU, "cuda"),
        (model(CPU_GROUP), SessionSettings(), ONLY_CPU, "cuda"),  # the model says where itself
        (LEFT_OPEN, SessionSettings(execution_provider="cpu"), ONLY_CPU, "cuda"),
    ],
)
def test_a_device_that_is_there_or_need_not_be_is_fine(
    config: ModelConfig, settings: SessionSettings, inventory: DeviceInventory, device: str
) -> None:
    require_device(config, settings, inventory, device)


@pytest.mark.parametrize("config", [LEFT_OPEN, model(InstanceGroup("a")), model(CPU_GROUP, InstanceGroup("a"))])
@pytest.mark.parametrize("inventory", [ONLY_CPU, PROVIDER_WITHOUT_GPU, GPU_WITHOUT_PROVIDER])
def test_a_gpu_that_the_operator_asked_for_must_be_there(config: ModelConfig, inventory: DeviceInventory) -> None:
    with pytest.raises(InvalidArgument, match=r"model 'm' on 'cuda', but no usable GPU was found; .*CPUExecutionProv"):
        require_device(config, SessionSettings(), inventory, "cuda")


def test_every_device_can_be_asked_for_by_name() -> None:
    assert known_devices()[:3] == ("auto", "cpu", "cuda")
