"""The options of each execution provider that a model may set: by key, with the check of its value. A closed list.

Triton hands on whatever is written; here a name or value that ONNX Runtime does not know fails the load.
"""

from collections.abc import Mapping

from ortolan.execution.option_values import COUNT, Check, choice, integer, named, text, truth

_FLAG = truth("1", "0")
# Where ONNX Runtime's Python binding reads TensorRT's options by itself it takes these words and no digits.
_WORD = truth("True", "False")

_MOST_THREADS = 1024

# Options of the CUDA provider; the first four are also model parameters in Triton's own spelling, and the switch of
# CUDA graphs is one in ONNX Runtime's.
CUDA_OPTIONS: Mapping[str, Check] = {
    "cudnn_conv_algo_search": named("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "gpu_mem_limit": COUNT,
    "arena_extend_strategy": named("kNextPowerOfTwo", "kSameAsRequested"),
    "do_copy_in_default_stream": _FLAG,
    "cudnn_conv_use_max_workspace": _FLAG,
    "cudnn_conv1d_pad_to_nc1d": _FLAG,
    "enable_cuda_graph": _FLAG,
    "enable_skip_layer_norm_strict_mode": _FLAG,
    "tunable_op_enable": _FLAG,
    "tunable_op_tuning_enable": _FLAG,
    "tunable_op_max_tuning_duration_ms": COUNT,
    "use_ep_level_unified_stream": _FLAG,
    "use_tf32": _FLAG,
    "prefer_nhwc": _FLAG,
    "fuse_conv_bias": _FLAG,
    "sdpa_kernel": COUNT,
}
LEGACY_CUDA_PARAMETERS = (
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
    "enable_cuda_graph",
)

TENSORRT_OPTIONS: Mapping[str, Check] = {
    "trt_max_workspace_size": COUNT,
    "trt_max_partition_iterations": COUNT,
    "trt_min_subgraph_size": COUNT,
    "trt_fp16_enable": _WORD,
    "trt_bf16_enable": _WORD,
    "trt_int8_enable": _WORD,
    "trt_int8_calibration_table_name": text,
    "trt_int8_use_native_calibration_table": _WORD,
    "trt_engine_cache_enable": _WORD,
    "trt_engine_cache_path": text,
    "trt_engine_cache_prefix": text,
    "trt_timing_cache_enable": _WORD,
    "trt_timing_cache_path": text,
    "trt_force_timing_cache": _WORD,
    "trt_dla_enable": _WORD,
    "trt_dla_core": COUNT,
    "trt_dump_subgraphs": _WORD,
    "trt_force_sequential_engine_build": _WORD,
    "trt_context_memory_sharing_enable": _WORD,
    "trt_layer_norm_fp32_fallback": _WORD,
    "trt_detailed_build_log": _WORD,
    "trt_build_heuristics_enable": _WORD,
    "trt_sparsity_enable": _WORD,
    "trt_builder_optimization_level": integer(0, 5),
    "trt_auxiliary_streams": integer(-1, 64),
    "trt_tactic_sources": text,
    "trt_extra_plugin_lib_paths": text,
    "trt_profile_min_shapes": text,
    "trt_profile_max_shapes": text,
    "trt_profile_opt_shapes": text,
    "trt_cuda_graph_enable": _WORD,
    "trt_dump_ep_context_model": _WORD,
    "trt_ep_context_file_path": text,
    "trt_ep_context_embed_mode": _WORD,
}
OPENVINO_OPTIONS: Mapping[str, Check] = {
    "device_type": text,
    "precision": choice("FP32", "FP16", "ACCURACY"),
    "num_of_threads": integer(1, _MOST_THREADS),
    "num_streams": integer(1, _MOST_THREADS),
    "cache_dir": text,
    "enable_opencl_throttling": choice("true", "false", "True", "False"),
    "disable_dynamic_shapes": choice("true", "false", "True", "False"),
    "model_priority": choice("LOW", "MEDIUM", "HIGH", "DEFAULT"),
}
COREML_OPTIONS: Mapping[str, Check] = {
    "ModelFormat": choice("MLProgram", "NeuralNetwork"),
    "MLComputeUnits": choice("CPUOnly", "CPUAndNeuralEngine", "CPUAndGPU", "ALL"),
    "RequireStaticInputShapes": _FLAG,
    "EnableOnSubgraphs": _FLAG,
    "ModelCacheDirectory": text,
}
MIGRAPHX_OPTIONS: Mapping[str, Check] = {
    "migraphx_fp16_enable": _FLAG,
    "migraphx_bf16_enable": _FLAG,
    "migraphx_int8_enable": _FLAG,
    "migraphx_exhaustive_tune": _FLAG,
}
ROCM_OPTIONS: Mapping[str, Check] = {
    "gpu_mem_limit": COUNT,
    "arena_extend_strategy": named("kNextPowerOfTwo", "kSameAsRequested"),
    "miopen_conv_exhaustive_search": _FLAG,
    "do_copy_in_default_stream": _FLAG,
    "tunable_op_enable": _FLAG,
    "tunable_op_tuning_enable": _FLAG,
}
DIRECTML_OPTIONS: Mapping[str, Check] = {
    "performance_preference": choice("default", "high_performance", "minimum_power"),
    "disable_metacommands": choice("true", "false"),
}
