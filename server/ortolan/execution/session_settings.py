"""How a session is to be made: threads, options and providers, out of a model's configuration. Typed and closed.

ONNX Runtime accepts any option with any value (``intra_op.allow_spinning=banana``), so nothing reaches it that is not
in the tables below: what a model's ``parameters`` may say, by key, with the type of its value.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.repository.model_config import ModelConfig

_MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Everything about a session except the model and the devices. Thread counts are threads that compute."""

    intra_op_threads: int = 1
    inter_op_threads: int = 1
    parallel_execution: bool = False
    graph_level: int = 0
    """Triton's: -1 basic, 0 all, 1 extended, 2 none."""
    memory_arena: bool = True
    memory_pattern: bool = True
    arena_shrinkage: str = ""
    allow_fallback: bool = False
    """Whether the model may run on the CPU when the provider it asks for does not come up."""
    execution_provider: str = ""
    config_entries: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    """Options of the GPU provider that Triton takes from the model's parameters."""
    custom_op_libraries: tuple[str, ...] = ()
    max_execution_s: float | None = None
    """When a run of this model is taken for hung; 0 for never; None where the model does not say."""


def _integer(lowest: int, highest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        try:
            number = int(value)
        except ValueError:
            raise ValueError(f"a whole number from {lowest} to {highest}") from None
        if not lowest <= number <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return str(number)

    return check


def _choice(*values: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise ValueError("one of " + ", ".join(values))
        return value

    return check


def _text(value: str) -> str:
    if not value:
        raise ValueError("a text that is not empty")
    return value


def _number(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise ValueError("a number of seconds, 0 or more")
    return str(number)


def _tolerance(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("a number, 0 or more")
    return str(number)


_ARENAS = re.compile(r"(cpu|gpu):\d+(;(cpu|gpu):\d+)*")


def _arenas(value: str) -> str:
    # The runtime looks at this when it runs, so that a wrong one would fail every request.
    if not _ARENAS.fullmatch(value):
        raise ValueError("devices such as cpu:0 or cpu:0;gpu:0")
    return value


_FLAG = _choice("0", "1")
_COUNT = _integer(0, 2**63 - 1)

# Parameters that Triton's ONNX Runtime backend knows, and some of ours.
MODEL_PARAMETERS: Mapping[str, Callable[[str], str]] = {
    "intra_op_thread_count": _integer(0, _MOST_THREADS),
    "inter_op_thread_count": _integer(0, _MOST_THREADS),
    "execution_mode": _FLAG,
    "enable_mem_arena": _FLAG,
    "enable_mem_pattern": _FLAG,
    "memory.enable_memory_arena_shrinkage": _arenas,
    "execution_provider": _text,
    "oversize_requests": _choice("split", "refuse"),
    "max_execution_secs": _number,
    "fallback": _choice("allow", "forbid"),
    "golden_rtol": _tolerance,
    "golden_atol": _tolerance,
}

# Session configuration entries of ONNX Runtime (onnxruntime_session_options_config_keys.h).
SESSION_ENTRIES: Mapping[str, Callable[[str], str]] = {
    "session.use_device_allocator_for_initializers": _FLAG,
    "session.use_env_allocators": _FLAG,
    "session.disable_prepacking": _FLAG,
    "session.set_denormal_as_zero": _FLAG,
    "session.disable_quant_qdq": _FLAG,
    "session.enable_quant_qdq_cleanup": _FLAG,
    "session.disable_double_qdq_remover": _FLAG,
    "session.disable_aot_function_inlining": _FLAG,
    "session.disable_cpu_ep_fallback": _FLAG,
    "session.enable_gemm_fastmath_arm64_bfloat16": _FLAG,
    "session.qdqisint8allowed": _FLAG,
    "session.x64quantprecision": _FLAG,
    "session.intra_op.allow_spinning": _FLAG,
    "session.inter_op.allow_spinning": _FLAG,
    "session.dynamic_block_base": _COUNT,
    "session.intra_op_thread_affinities": _text,
    "session.strict_shape_type_inference": _FLAG,
    "optimization.enable_gelu_approximation": _FLAG,
    "optimization.disable_specified_optimizers": _text,
    "mlas.enable_gemm_fastmath_arm64_bfloat16": _FLAG,
}

# Options of the CUDA provider; the first four are also model parameters in Triton's own spelling.
CUDA_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "cudnn_conv_algo_search": _choice("0", "1", "2", "EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "gpu_mem_limit": _COUNT,
    "arena_extend_strategy": _choice("0", "1", "kNextPowerOfTwo", "kSameAsRequested"),
    "do_copy_in_default_stream": _choice("0", "1", "true", "false"),
    "cudnn_conv_use_max_workspace": _FLAG,
    "cudnn_conv1d_pad_to_nc1d": _FLAG,
    "enable_cuda_graph": _FLAG,
    "enable_skip_layer_norm_strict_mode": _FLAG,
    "tunable_op_enable": _FLAG,
    "tunable_op_tuning_enable": _FLAG,
    "use_ep_level_unified_stream": _FLAG,
    "use_tf32": _FLAG,
    "prefer_nhwc": _FLAG,
    "fuse_conv_bias": _FLAG,
    "sdpa_kernel": _COUNT,
}
LEGACY_CUDA_PARAMETERS = (
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)

TENSORRT_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "trt_max_workspace_size": _COUNT,
    "trt_max_partition_iterations": _COUNT,
    "trt_min_subgraph_size": _COUNT,
    "trt_fp16_enable": _FLAG,
    "trt_bf16_enable": _FLAG,
    "trt_int8_enable": _FLAG,
    "trt_int8_calibration_table_name": _text,
    "trt_int8_use_native_calibration_table": _FLAG,
    "trt_engine_cache_enable": _FLAG,
    "trt_engine_cache_path": _text,
    "trt_engine_cache_prefix": _text,
    "trt_timing_cache_enable": _FLAG,
    "trt_timing_cache_path": _text,
    "trt_force_timing_cache": _FLAG,
    "trt_dla_enable": _FLAG,
    "trt_dla_core": _COUNT,
    "trt_dump_subgraphs": _FLAG,
    "trt_force_sequential_engine_build": _FLAG,
    "trt_context_memory_sharing_enable": _FLAG,
    "trt_layer_norm_fp32_fallback": _FLAG,
    "trt_detailed_build_log": _FLAG,
    "trt_build_heuristics_enable": _FLAG,
    "trt_sparsity_enable": _FLAG,
    "trt_builder_optimization_level": _integer(0, 5),
    "trt_auxiliary_streams": _integer(-1, 64),
    "trt_tactic_sources": _text,
    "trt_extra_plugin_lib_paths": _text,
    "trt_profile_min_shapes": _text,
    "trt_profile_max_shapes": _text,
    "trt_profile_opt_shapes": _text,
    "trt_cuda_graph_enable": _FLAG,
    "trt_dump_ep_context_model": _FLAG,
    "trt_ep_context_file_path": _text,
    "trt_ep_context_embed_mode": _choice("0", "1"),
}
OPENVINO_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "device_type": _text,
    "precision": _choice("FP32", "FP16", "ACCURACY"),
    "num_of_threads": _integer(1, _MOST_THREADS),
    "num_streams": _integer(1, _MOST_THREADS),
    "cache_dir": _text,
    "enable_opencl_throttling": _choice("true", "false", "True", "False"),
    "disable_dynamic_shapes": _choice("true", "false", "True", "False"),
    "model_priority": _choice("LOW", "MEDIUM", "HIGH", "DEFAULT"),
}
COREML_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "ModelFormat": _choice("MLProgram", "NeuralNetwork"),
    "MLComputeUnits": _choice("CPUOnly", "CPUAndNeuralEngine", "CPUAndGPU", "ALL"),
    "RequireStaticInputShapes": _FLAG,
    "EnableOnSubgraphs": _FLAG,
    "ModelCacheDirectory": _text,
}
MIGRAPHX_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "migraphx_fp16_enable": _FLAG,
    "migraphx_bf16_enable": _FLAG,
    "migraphx_int8_enable": _FLAG,
    "migraphx_exhaustive_tune": _FLAG,
}
ROCM_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "gpu_mem_limit": _COUNT,
    "arena_extend_strategy": _choice("0", "1", "kNextPowerOfTwo", "kSameAsRequested"),
    "miopen_conv_exhaustive_search": _FLAG,
    "do_copy_in_default_stream": _FLAG,
    "tunable_op_enable": _FLAG,
    "tunable_op_tuning_enable": _FLAG,
}
DIRECTML_OPTIONS: Mapping[str, Callable[[str], str]] = {
    "performance_preference": _choice("default", "high_performance", "minimum_power"),
    "disable_metacommands": _choice("true", "false"),
}


def settings_of(config: ModelConfig, default_intra_op_threads: int = 1) -> tuple[SessionSettings, list[str]]:
    """The session settings that ``config`` asks for, and the names of its parameters that mean nothing to us.

    Raises InvalidArgument for a known key with a wrong value and for an unknown key of ONNX Runtime's own families.
    """
    known = dict(MODEL_PARAMETERS) | dict(SESSION_ENTRIES) | {k: CUDA_OPTIONS[k] for k in LEGACY_CUDA_PARAMETERS}
    values: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in config.parameters.items():
        if key in known:
            values[key] = checked(key, value, known, f"parameter of model '{config.name}'")
        elif key.startswith(("session.", "optimization.", "mlas.", "ep.")):
            raise InvalidArgument(_unknown_text(key, known, f"parameter of model '{config.name}'"))
        else:
            unknown.append(key)
    return _assemble(config, values, default_intra_op_threads), unknown


def _assemble(config: ModelConfig, values: Mapping[str, str], default_intra_op_threads: int) -> SessionSettings:
    def flag(key: str, default: bool) -> bool:
        return values[key] == "1" if key in values else default

    # 0 is Triton's "not set", which ONNX Runtime would take as every core of the machine for each session.
    intra = int(values.get("intra_op_thread_count", "0")) or default_intra_op_threads
    entries = {
        # A spinning pool eats the cores that the other instances need; measured 1.3 to 1.9 times the CPU per request.
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
    }
    entries.update({key: value for key, value in values.items() if key in SESSION_ENTRIES})
    return SessionSettings(
        intra_op_threads=intra,
        inter_op_threads=int(values.get("inter_op_thread_count", "0")) or 1,
        parallel_execution=flag("execution_mode", False),
        graph_level=config.optimization.graph_level,
        memory_arena=flag("enable_mem_arena", True),
        memory_pattern=flag("enable_mem_pattern", True),
        arena_shrinkage=values.get("memory.enable_memory_arena_shrinkage", ""),
        allow_fallback=values.get("fallback") == "allow",
        execution_provider=values.get("execution_provider", ""),
        config_entries=entries,
        provider_options={key: values[key] for key in LEGACY_CUDA_PARAMETERS if key in values},
        custom_op_libraries=config.op_library_filenames,
        max_execution_s=float(values["max_execution_secs"]) if "max_execution_secs" in values else None,
    )


def checked(key: str, value: str, table: Mapping[str, Callable[[str], str]], what: str) -> str:
    """``value``, when ``table`` knows ``key`` and its check lets the value pass; else InvalidArgument."""
    if key not in table:
        raise InvalidArgument(_unknown_text(key, table, what))
    try:
        return table[key](value)
    except ValueError as error:
        raise InvalidArgument(f"{what} '{key}' expects {error}, got '{value}'") from None


def _unknown_text(key: str, known: Collection[str], what: str) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown {what} '{key}'{hint}"
