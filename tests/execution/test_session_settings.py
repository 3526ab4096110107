"""What a model's parameters may say of its session, and how the rest is refused."""

import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.option_values import checked
from ortolan.execution.provider_options import CUDA_OPTIONS, TENSORRT_OPTIONS
from ortolan.execution.session_settings import SessionSettings, settings_of
from ortolan.repository.model_config import ModelConfig, Optimization

NO_SPINNING = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}


def settings(parameters: dict[str, str]) -> SessionSettings:
    return settings_of(ModelConfig("m", parameters=parameters))[0]


def test_without_a_word_a_session_computes_in_one_thread_and_does_not_spin() -> None:
    assert settings({}) == SessionSettings(config_entries=NO_SPINNING)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("intra_op_thread_count", "4", {"intra_op_threads": 4}),
        ("intra_op_thread_count", "0", {}),  # Triton's "not set" must not become every core of the machine
        ("intra_op_thread_count", "1024", {"intra_op_threads": 1024}),
        ("inter_op_thread_count", "2", {"inter_op_threads": 2}),
        ("inter_op_thread_count", "0", {}),
        ("execution_mode", "0", {}),
        ("execution_mode", "1", {"parallel_execution": True}),
        ("enable_mem_arena", "1", {}),
        ("enable_mem_arena", "0", {"memory_arena": False}),
        ("enable_mem_pattern", "0", {"memory_pattern": False}),
        ("memory.enable_memory_arena_shrinkage", "cpu:0", {"arena_shrinkage": "cpu:0"}),
        ("memory.enable_memory_arena_shrinkage", "cpu:0;gpu:1", {"arena_shrinkage": "cpu:0;gpu:1"}),
        ("execution_provider", "cuda,cpu", {"execution_provider": "cuda,cpu"}),
        ("fallback", "allow", {"allow_fallback": True}),
        ("fallback", "forbid", {}),
        ("gpu_mem_limit", "1000", {"provider_options": {"gpu_mem_limit": "1000"}}),
        # Triton's numbers, of which ONNX Runtime only knows the names.
        ("cudnn_conv_algo_search", "2", {"provider_options": {"cudnn_conv_algo_search": "DEFAULT"}}),
        ("cudnn_conv_algo_search", "EXHAUSTIVE", {"provider_options": {"cudnn_conv_algo_search": "EXHAUSTIVE"}}),
        ("arena_extend_strategy", "1", {"provider_options": {"arena_extend_strategy": "kSameAsRequested"}}),
        ("do_copy_in_default_stream", "true", {"provider_options": {"do_copy_in_default_stream": "1"}}),
        ("session.intra_op.allow_spinning", "1", {"session.intra_op.allow_spinning": "1"}),
        ("session.disable_prepacking", "1", {"session.disable_prepacking": "1"}),
        ("optimization.disable_specified_optimizers", "A,B", {"optimization.disable_specified_optimizers": "A,B"}),
        ("mlas.enable_gemm_fastmath_arm64_bfloat16", "1", {"mlas.enable_gemm_fastmath_arm64_bfloat16": "1"}),
    ],
)
def test_a_known_parameter_changes_the_session(key: str, value: str, expected: dict[str, object]) -> None:
    entries = {name: text for name, text in expected.items() if "." in name}
    fields = {name: text for name, text in expected.items() if "." not in name}
    assert settings({key: value}) == SessionSettings(config_entries=NO_SPINNING | entries, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "expects"),
    [
        ("intra_op_thread_count", "-1", "a whole number from 0 to 1024"),
        ("intra_op_thread_count", "1025", "a whole number from 0 to 1024"),
        ("intra_op_thread_count", "many", "a whole number from 0 to 1024"),
        ("intra_op_thread_count", "1.5", "a whole number from 0 to 1024"),
        ("intra_op_thread_count", "", "a whole number from 0 to 1024"),
        ("execution_mode", "2", "one of 0, 1"),
        ("enable_mem_arena", "true", "one of 0, 1"),
        ("memory.enable_memory_arena_shrinkage", "banana", "devices such as cpu:0"),  # would fail at every request
        ("memory.enable_memory_arena_shrinkage", "cpu:0,gpu:0", "devices such as cpu:0"),
        ("memory.enable_memory_arena_shrinkage", "", "devices such as cpu:0"),
        ("execution_provider", "", "a text that is not empty"),
        ("fallback", "warn", "one of allow, forbid"),
        ("gpu_mem_limit", "-5", "a whole number"),
        ("arena_extend_strategy", "2", "one of 0, 1, kNextPowerOfTwo"),
        ("session.intra_op.allow_spinning", "banana", "one of 0, 1"),
        ("session.dynamic_block_base", "x", "a whole number"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(key: str, value: str, expects: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"parameter of model 'm' '{key}' expects {expects}.*got '{value}'"):
        settings({key: value})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("session.intra_op.allow_spining", "did you mean 'session.intra_op.allow_spinning'?"),
        ("session.disable_prepackin", "did you mean 'session.disable_prepacking'?"),
        ("mlas.enable_gemm_fastmath_arm64", "did you mean 'mlas.enable_gemm_fastmath_arm64_bfloat16'?"),
        ("ep.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", ""),  # nothing is near
    ],
)
def test_an_unknown_key_of_the_runtimes_families_is_refused_with_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        settings({key: "1"})
    assert f"unknown parameter of model 'm' '{key}'" in refusal.value.message
    assert refusal.value.message.endswith(hint)
    assert ("did you mean" in refusal.value.message) == bool(hint)


def test_other_peoples_keys_are_told_and_ignored() -> None:
    config = ModelConfig("m", parameters={"author": "x", "FORCE_CPU_ONLY_INPUT_TENSORS": "no", "fallback": "allow"})
    found, unknown = settings_of(config)
    assert sorted(unknown) == ["FORCE_CPU_ONLY_INPUT_TENSORS", "author"]
    assert found == SessionSettings(config_entries=NO_SPINNING, allow_fallback=True)


def test_the_operators_threads_are_for_models_that_do_not_say() -> None:
    assert settings_of(ModelConfig("m"), 3)[0].intra_op_threads == 3
    assert settings_of(ModelConfig("m", parameters={"intra_op_thread_count": "0"}), 3)[0].intra_op_threads == 3
    assert settings_of(ModelConfig("m", parameters={"intra_op_thread_count": "2"}), 3)[0].intra_op_threads == 2


def test_what_stands_outside_the_parameters_is_taken_over() -> None:
    config = ModelConfig("m", optimization=Optimization(graph_level=-1), op_library_filenames=("libops.so",))
    found = settings_of(config)[0]
    assert (found.graph_level, found.custom_op_libraries) == (-1, ("libops.so",))


@pytest.mark.parametrize("written", ["1", "true", "True"])
def test_a_provider_gets_yes_in_the_spelling_that_it_takes(written: str) -> None:
    assert checked("trt_fp16_enable", written, TENSORRT_OPTIONS, "option") == "True"
    assert checked("use_tf32", written, CUDA_OPTIONS, "option") == "1"


def test_an_unknown_option_of_a_provider_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match=r"unknown option 'use_tf23'; did you mean 'use_tf32'\?"):
        checked("use_tf23", "1", CUDA_OPTIONS, "option")
