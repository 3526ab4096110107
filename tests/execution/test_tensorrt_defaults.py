"""What TensorRT is told when a model does not say it itself: tables of options, and the directories."""

from pathlib import Path

import pytest

from ortolan.execution.cuda_graphs import CUDA, TENSORRT
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.tensorrt_defaults import (
    cache_options,
    profile_options,
    with_tensorrt_defaults,
    without_derived_profiles,
)
from ortolan.inference.datatypes import FP32
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.model_config import DynamicBatching, InstanceKind, ModelConfig

SHA = "a" * 64
CACHE = Path("/cache")
ENGINES = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": "/cache/1.31.1/" + "a" * 40}
TIMINGS = {"trt_timing_cache_enable": "True", "trt_timing_cache_path": "/cache/1.31.1/timing"}


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({}, ENGINES | TIMINGS),
        ({"trt_fp16_enable": "True"}, ENGINES | TIMINGS),
        ({"trt_engine_cache_enable": "False"}, TIMINGS),
        ({"trt_engine_cache_path": "/own"}, TIMINGS),
        ({"trt_engine_cache_enable": "True", "trt_engine_cache_path": "/own"}, TIMINGS),
        # Without a path ONNX Runtime takes the directory that the server was started in.
        ({"trt_engine_cache_enable": "True"}, {"trt_engine_cache_path": ENGINES["trt_engine_cache_path"], **TIMINGS}),
        ({"trt_timing_cache_enable": "False", "trt_engine_cache_enable": "False"}, {}),
    ],
)
def test_caches_are_on_unless_the_model_says_something_of_them(own: dict[str, str], added: dict[str, str]) -> None:
    assert cache_options(own, CACHE, SHA, "1.31.1") == added


def config(*inputs: TensorSpec, rows: int = 8, preferred: tuple[int, ...] = ()) -> ModelConfig:
    return ModelConfig("m", max_batch_size=rows, inputs=inputs, dynamic_batching=DynamicBatching(preferred))


X, IMAGE = TensorSpec("x", FP32, (4,)), TensorSpec("i", FP32, (3, 224, 224))


@pytest.mark.parametrize(
    ("own", "made", "expected"),
    [
        ({}, config(X), ["x:1x4", "x:8x4", "x:8x4"]),
        ({}, config(X, IMAGE), ["x:1x4,i:1x3x224x224", "x:8x4,i:8x3x224x224", "x:8x4,i:8x3x224x224"]),
        ({}, config(X, preferred=(2, 4)), ["x:1x4", "x:4x4", "x:8x4"]),
        ({}, config(TensorSpec("x", FP32, (1,), reshape=())), ["x:1", "x:8", "x:8"]),
        ({}, config(X, rows=0), []),  # no batch
        ({}, config(), []),  # nothing is said of the inputs
        ({}, config(TensorSpec("x", FP32, (-1, 4))), []),  # another size varies
        ({}, config(X, TensorSpec("r", FP32, (4,), ragged=True)), []),
        ({"trt_profile_min_shapes": "x:2x4"}, config(X), []),  # the model's own word
    ],
)
def test_engines_are_built_for_the_batches_of_the_configuration(
    own: dict[str, str], made: ModelConfig, expected: list[str]
) -> None:
    found = profile_options(own, made)
    names = [f"trt_profile_{which}_shapes" for which in ("min", "opt", "max")]
    assert found == (dict(zip(names, expected, strict=True)) if expected else {})


def place(*providers: Provider) -> Placement:
    return Placement("m_0", InstanceKind.GPU, 0, (*providers, Provider(CPU_PROVIDER)))


def test_only_tensorrt_is_told_and_its_directories_are_made_for_this_user(tmp_path: Path) -> None:
    places, notes = with_tensorrt_defaults((place(Provider(TENSORRT), Provider(CUDA)),), config(X), tmp_path, SHA, "1")
    assert notes == ()
    tensorrt, cuda, _ = places[0].providers
    assert cuda == Provider(CUDA)
    for cache in ("trt_engine_cache_path", "trt_timing_cache_path"):
        own = Path(tensorrt.options[cache])
        assert own.is_dir()
        assert own.stat().st_mode & 0o77 == 0
    hash(places[0])


def test_two_contents_of_a_model_never_share_engines(tmp_path: Path) -> None:
    found = [
        with_tensorrt_defaults((place(Provider(TENSORRT)),), config(X), tmp_path, sha, "1")[0][0].providers[0].options
        for sha in ("a" * 64, "b" * 64)
    ]
    assert found[0]["trt_engine_cache_path"] != found[1]["trt_engine_cache_path"]
    assert found[0]["trt_timing_cache_path"] == found[1]["trt_timing_cache_path"]


def test_a_model_without_tensorrt_makes_no_directory(tmp_path: Path) -> None:
    places = (place(Provider(CUDA)),)
    assert with_tensorrt_defaults(places, config(X), tmp_path / "cache", SHA, "1") == (places, ())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_told_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places, (note,) = with_tensorrt_defaults((place(Provider(TENSORRT)),), config(X), tmp_path / "file", SHA, "1")
    assert note.startswith("its TensorRT engines are not kept in --tensorrt-cache-directory: ")
    assert str(tmp_path) not in note
    options = places[0].providers[0].options
    assert "trt_profile_max_shapes" in options
    assert "trt_engine_cache_path" not in options


def test_profiles_that_the_server_made_can_be_left_out_and_the_models_own_not(tmp_path: Path) -> None:
    (made,), _ = with_tensorrt_defaults((place(Provider(TENSORRT)),), config(X), tmp_path, SHA, "1")
    without = without_derived_profiles(made)
    assert without is not None
    options = without.providers[0].options
    assert [name for name in options if "profile" in name] == []
    assert "trt_engine_cache_path" in options
    assert without_derived_profiles(without) is None
    own = place(Provider(TENSORRT, {"trt_profile_min_shapes": "x:1x4"}))
    assert without_derived_profiles(own) is None
