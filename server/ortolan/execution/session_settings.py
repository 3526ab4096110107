"""How a session is to be made: threads, options and providers, out of a model's configuration. Typed and closed.

ONNX Runtime accepts any option with any value (``intra_op.allow_spinning=banana``), so nothing reaches it that is not
in the tables below: what a model's ``parameters`` may say, by key, with the type of its value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.execution.option_values import (
    COUNT,
    FLAG,
    Check,
    arenas,
    checked,
    choice,
    integer,
    seconds,
    text,
    tolerance,
    unknown_text,
)
from ortolan.execution.provider_options import CUDA_OPTIONS, LEGACY_CUDA_PARAMETERS
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
    optimised_model_file: str = ""
    """Where ONNX Runtime writes what it made of the graph; nowhere if empty."""


# Parameters that Triton's ONNX Runtime backend knows, and some of ours.
MODEL_PARAMETERS: Mapping[str, Check] = {
    "intra_op_thread_count": integer(0, _MOST_THREADS),
    "inter_op_thread_count": integer(0, _MOST_THREADS),
    "execution_mode": FLAG,
    "enable_mem_arena": FLAG,
    "enable_mem_pattern": FLAG,
    "memory.enable_memory_arena_shrinkage": arenas,
    "execution_provider": text,
    "oversize_requests": choice("split", "refuse"),
    "max_execution_secs": seconds,
    "fallback": choice("allow", "forbid"),
    "golden_rtol": tolerance,
    "golden_atol": tolerance,
    "pin": FLAG,
    "idle_unload_secs": seconds,
    "compiled_cache": choice("on", "off"),
}

# Session configuration entries of ONNX Runtime (onnxruntime_session_options_config_keys.h).
SESSION_ENTRIES: Mapping[str, Check] = {
    "session.use_device_allocator_for_initializers": FLAG,
    "session.use_env_allocators": FLAG,
    "session.disable_prepacking": FLAG,
    "session.set_denormal_as_zero": FLAG,
    "session.disable_quant_qdq": FLAG,
    "session.enable_quant_qdq_cleanup": FLAG,
    "session.disable_double_qdq_remover": FLAG,
    "session.disable_aot_function_inlining": FLAG,
    "session.disable_cpu_ep_fallback": FLAG,
    "session.enable_gemm_fastmath_arm64_bfloat16": FLAG,
    "session.qdqisint8allowed": FLAG,
    "session.x64quantprecision": FLAG,
    "session.intra_op.allow_spinning": FLAG,
    "session.inter_op.allow_spinning": FLAG,
    "session.dynamic_block_base": COUNT,
    "session.intra_op_thread_affinities": text,
    "session.strict_shape_type_inference": FLAG,
    "optimization.enable_gelu_approximation": FLAG,
    "optimization.disable_specified_optimizers": text,
    "mlas.enable_gemm_fastmath_arm64_bfloat16": FLAG,
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
            raise InvalidArgument(unknown_text(key, known, f"parameter of model '{config.name}'"))
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
