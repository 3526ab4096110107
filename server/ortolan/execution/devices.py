"""Which devices and execution providers there are, and which of them an instance gets. Pure but for ``count_gpus``."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ortolan.errors import InvalidArgument
from ortolan.execution import provider_options as allowed
from ortolan.execution.option_values import Check, checked
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import Accelerator, InstanceGroup, InstanceKind, ModelConfig
from ortolan.repository.rate_limiter_config import NO_RATE_LIMITER, RateLimiterConfig

CPU_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class _ProviderKind:
    """What we know of one provider of ONNX Runtime."""

    name: str
    is_gpu: bool
    options: Mapping[str, Check]
    device_option: str = ""
    """The option that takes the device's number."""


# Our short names, which are Triton's accelerator names where it has one.
_KINDS: Mapping[str, _ProviderKind] = {
    "cpu": _ProviderKind(CPU_PROVIDER, False, {}),
    "cuda": _ProviderKind("CUDAExecutionProvider", True, allowed.CUDA_OPTIONS, "device_id"),
    "tensorrt": _ProviderKind("TensorrtExecutionProvider", True, allowed.TENSORRT_OPTIONS, "device_id"),
    "migraphx": _ProviderKind("MIGraphXExecutionProvider", True, allowed.MIGRAPHX_OPTIONS, "device_id"),
    "rocm": _ProviderKind("ROCMExecutionProvider", True, allowed.ROCM_OPTIONS, "device_id"),
    "directml": _ProviderKind("DmlExecutionProvider", True, allowed.DIRECTML_OPTIONS, "device_id"),
    "openvino": _ProviderKind("OpenVINOExecutionProvider", False, allowed.OPENVINO_OPTIONS),
    "coreml": _ProviderKind("CoreMLExecutionProvider", False, allowed.COREML_OPTIONS),
    "xnnpack": _ProviderKind("XnnpackExecutionProvider", False, {}),
}
# Which provider a bare "GPU" means, the first that this build of ONNX Runtime has.
_GPU_PREFERENCE = ("cuda", "migraphx", "rocm", "directml")

_TENSORRT_PRECISIONS = {"FP32": "", "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider as it is asked for, with the options it is given."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    derived: frozenset[str] = frozenset()
    """Those of the options that are the server's own idea, and may be left out again."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one instance goes: its device and the providers tried in order, the CPU last."""

    instance_name: str
    kind: InstanceKind
    device_id: int
    providers: tuple[Provider, ...]
    rate_limiter: RateLimiterConfig = NO_RATE_LIMITER

    def arenas(self, on_cpu: bool) -> tuple[str, ...]:
        """The arenas of a session here, in ONNX Runtime's words; ``on_cpu`` is whether it has one for the CPU."""
        cpu = ("cpu:0",) if on_cpu else ()
        return cpu if self.kind is InstanceKind.CPU else (*cpu, f"gpu:{self.device_id}")

    @property
    def device(self) -> str:
        return "CPU" if self.kind is InstanceKind.CPU else f"GPU {self.device_id}"


@dataclass(frozen=True, slots=True)
class DeviceInventory:
    """What this machine and this build of ONNX Runtime offer. ``cores`` is what the process may use."""

    providers: tuple[str, ...] = (CPU_PROVIDER,)
    gpus: tuple[int, ...] = ()
    cores: int = 1
    visible_gpus: str | None = None
    """CUDA_VISIBLE_DEVICES."""

    @property
    def usable_gpus(self) -> tuple[int, ...]:
        """The GPUs that a provider of this build can drive."""
        return self.gpus if any(_KINDS[name].name in self.providers for name in _GPU_PREFERENCE) else ()

    @property
    def lacks_gpus(self) -> bool:
        """Whether this build of ONNX Runtime is for GPUs that the system would show, and there is none."""
        return not self.gpus and any(_KINDS[name].name in self.providers for name in ("cuda", "migraphx", "rocm"))


def take_inventory(providers: Collection[str], visible: str | None, device: str = "auto") -> DeviceInventory:
    """The inventory for ``providers`` of this build; ``visible`` is CUDA_VISIBLE_DEVICES; ``device`` may hide GPUs."""
    gpus = tuple(range(count_gpus(visible))) if device == "auto" or _KINDS[device].is_gpu else ()
    return DeviceInventory(tuple(providers), gpus, usable_cores(), visible)


def usable_cores() -> int:
    """The cores that this process may use: its affinity, cut by the cgroup's CPU quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, int(quota + 0.5)) if quota else cores)


def _cgroup_quota() -> float:
    """CPUs allowed by cgroup v2 or v1; 0 when there is no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 0.0
    return 0.0 if quota in ("max", "-1") else int(quota) / int(period)


def count_gpus(visible: str | None, devices: Path = Path("/dev")) -> int:
    """GPUs that the operating system shows in ``devices``, as far as ``visible`` (CUDA_VISIBLE_DEVICES) lets us see.

    ONNX Runtime cannot tell: its GPU build lists CUDA as available on machines without a GPU.
    """
    nvidia = len(list(devices.glob("nvidia[0-9]*")))
    amd = len(list(devices.glob("dri/renderD*"))) if (devices / "kfd").exists() else 0
    present = nvidia or amd
    return present if visible is None or not nvidia else min(present, _shown(visible))


def _shown(visible: str) -> int:
    """How many devices CUDA_VISIBLE_DEVICES lists; as CUDA has it, nothing counts after an entry that is none."""
    entries = [entry.strip() for entry in visible.split(",")]
    return next((index for index, entry in enumerate(entries) if entry in ("", "-1")), len(entries))


def require_device(config: ModelConfig, settings: SessionSettings, inventory: DeviceInventory, device: str) -> None:
    """Raises InvalidArgument when ``config`` leaves its device to the operator, who asked for a GPU that is not there.

    ``config`` as its file has it: once its instance groups are completed they no longer tell.
    """
    left_open = not config.instance_groups or any(
        group.kind in (InstanceKind.AUTO, InstanceKind.MODEL) for group in config.instance_groups
    )
    wants_gpu = device != "auto" and _KINDS[device].is_gpu and left_open and not settings.execution_provider
    if wants_gpu and not inventory.usable_gpus and not settings.allow_fallback:
        raise InvalidArgument(
            f"the server is to run model '{config.name}' on '{device}', but no usable GPU was found; this ONNX Runtime "
            f"has {', '.join(inventory.providers)}. Start the server with device 'auto' or 'cpu', or with fallback "
            "'allow'."
        )


def places_of(
    config: ModelConfig, settings: SessionSettings, inventory: DeviceInventory, device: str
) -> tuple[Placement, ...]:
    """One placement for each instance of the model, in the order of its instance groups.

    ``device`` is the operator's choice (``auto`` or a provider's short name), which a model's own
    ``execution_provider`` parameter or accelerators override. Raises InvalidArgument when the configuration asks for
    devices or providers that are not there.
    """
    places: list[Placement] = []
    for group in config.instance_groups:
        for gpu in _gpus_of(config, group, inventory):
            kind = InstanceKind.CPU if gpu < 0 else InstanceKind.GPU
            providers = _providers_for(config, settings, inventory, device, kind, max(gpu, 0))
            for number in range(group.count):
                suffix = "" if gpu < 0 else f"_gpu{gpu}"
                name = f"{group.name}_{number}{suffix}"
                places.append(Placement(name, kind, max(gpu, 0), providers, group.rate_limiter))
    return tuple(places)


def _gpus_of(config: ModelConfig, group: InstanceGroup, inventory: DeviceInventory) -> tuple[int, ...]:
    """The GPUs of a group; -1 stands for the CPU."""
    if group.kind is not InstanceKind.GPU:
        return (-1,)
    usable = inventory.usable_gpus
    wanted = group.gpus or usable
    missing = [gpu for gpu in wanted if gpu not in usable]
    if missing or not usable:
        have = f"the GPUs here are {list(usable)}" if usable else "no usable GPU was found"
        raise InvalidArgument(
            f"instance group '{group.name}' of model '{config.name}' wants KIND_GPU"
            f"{' on ' + str(list(wanted)) if wanted else ''}, but {have}. "
            "Use KIND_CPU, or run on a machine with the GPU and install ortolan[gpu]."
        )
    return wanted


def _providers_for(
    config: ModelConfig,
    settings: SessionSettings,
    inventory: DeviceInventory,
    device: str,
    kind: InstanceKind,
    device_id: int,
) -> tuple[Provider, ...]:
    asked = _asked_for(config, settings, device, kind)
    if not asked and kind is InstanceKind.GPU:
        asked = [Accelerator(next(n for n in _GPU_PREFERENCE if _KINDS[n].name in inventory.providers))]
    names = [accelerator.name for accelerator in asked]
    if "tensorrt" in names and "cuda" not in names and "CUDAExecutionProvider" in inventory.providers:
        # What TensorRT cannot take runs best on CUDA, not on the CPU.
        asked = [*asked, Accelerator("cuda")]
    chain = [_provider(config, settings, accelerator, device_id) for accelerator in asked if accelerator.name != "cpu"]
    present = [provider for provider in chain if provider.name in inventory.providers]
    if len(present) != len(chain) and not settings.allow_fallback:
        missing = next(provider.name for provider in chain if provider.name not in inventory.providers)
        raise InvalidArgument(
            f"model '{config.name}' asks for {missing}, which this ONNX Runtime does not have; it has "
            f"{', '.join(inventory.providers)}. Install the ONNX Runtime build that has it, or set the model parameter "
            "'fallback' to 'allow' to run on what there is."
        )
    return (*present, Provider(CPU_PROVIDER))


def _asked_for(config: ModelConfig, settings: SessionSettings, device: str, kind: InstanceKind) -> list[Accelerator]:
    """What the model asks for, else what the operator asks for; the model's own word counts first. Short names."""
    if settings.execution_provider:
        names = [name.strip() for name in settings.execution_provider.split(",")]
        return [Accelerator(_short_name(name, config.name)) for name in names]
    on_gpu = kind is InstanceKind.GPU
    own = config.optimization.gpu_accelerators if on_gpu else config.optimization.cpu_accelerators
    if own:
        return [Accelerator(_short_name(each.name, config.name), each.parameters) for each in own]
    if device not in ("auto", "cpu") and _KINDS[device].is_gpu is on_gpu:
        return [Accelerator(device)]
    return []


def provider_name(name: str, model_name: str) -> str:
    """ONNX Runtime's name of the provider that a model calls ``name``. Raises InvalidArgument for an unknown one."""
    return _KINDS[_short_name(name, model_name)].name


def _short_name(name: str, model_name: str) -> str:
    by_long_name = {kind.name.lower(): short for short, kind in _KINDS.items()}
    short = by_long_name.get(name.lower(), name.lower())
    if short not in _KINDS:
        raise InvalidArgument(
            f"unknown Execution Accelerator '{name}' is requested for model '{model_name}'; "
            f"known are {', '.join(_KINDS)}"
        )
    return short


def _provider(config: ModelConfig, settings: SessionSettings, accelerator: Accelerator, device_id: int) -> Provider:
    kind = _KINDS[accelerator.name]
    options = dict(accelerator.parameters)
    if accelerator.name == "tensorrt":
        options = _tensorrt_options(config.name, options)
    elif accelerator.name == "cuda":
        options = {**settings.provider_options, **options}
    what = f"option of accelerator '{accelerator.name}' of model '{config.name}'"
    options = {key: checked(key, value, kind.options, what) for key, value in options.items()}
    if kind.device_option:
        options[kind.device_option] = str(device_id)
    return Provider(kind.name, options)


def _tensorrt_options(model_name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Triton's words for TensorRT's options in ONNX Runtime's own."""
    options: dict[str, str] = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in _TENSORRT_PRECISIONS:
                known = ", ".join(_TENSORRT_PRECISIONS)
                raise InvalidArgument(
                    f"precision_mode of accelerator 'tensorrt' of model '{model_name}' expects one of {known}, "
                    f"got '{value}'"
                )
            if _TENSORRT_PRECISIONS[value]:
                options[_TENSORRT_PRECISIONS[value]] = "1"
        else:
            options[_TENSORRT_NAMES.get(key, key)] = value
    return options


def known_devices() -> tuple[str, ...]:
    """What an operator may ask for."""
    return ("auto", *_KINDS)
