"""What TensorRT is told when a model does not say it itself: where engines are kept, for which shapes they are built.

Building an engine takes minutes, and without a cache each instance and each start does it again. ONNX Runtime knows an
engine again by the model's names and not by its weights, so that each content of a model has a directory of its own.
Pure but for the making of directories.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ortolan.execution.cuda_graphs import TENSORRT
from ortolan.execution.devices import Placement, Provider
from ortolan.repository.model_config import ModelConfig

_CACHE = ("trt_engine_cache_enable", "trt_engine_cache_path")
_TIMING = ("trt_timing_cache_enable", "trt_timing_cache_path")
_PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def cache_options(options: Mapping[str, str], directory: Path, model_sha256: str, runtime: str) -> dict[str, str]:
    """What is added to ``options`` so that engines of this model are kept under ``directory``, and kernels' timings.

    Nothing for a cache of which the model's own options say anything.
    """
    added: dict[str, str] = {}
    for (enable, path), place in zip((_CACHE, _TIMING), _directories(directory, model_sha256, runtime), strict=True):
        if enable not in options and path not in options:
            added |= {enable: "True", path: str(place)}
        elif path not in options and options.get(enable) == "True":
            # ONNX Runtime would write it to the directory that the server was started in.
            added[path] = str(place)
    return added


def _directories(directory: Path, model_sha256: str, runtime: str) -> tuple[Path, Path]:
    """Where the engines of one model are, and the timings of kernels, which all models have in common."""
    own = directory / runtime
    return own / model_sha256[:40], own / "timing"


def profile_options(options: Mapping[str, str], config: ModelConfig) -> dict[str, str]:
    """The shapes that engines are built for where only the batch varies, as far as ``config`` says what they are.

    Without them TensorRT builds the engine again whenever a larger batch comes, while requests wait.
    """
    if config.max_batch_size < 1 or not config.inputs or any(name in options for name in _PROFILES):
        return {}
    if config.batch_inputs or any(spec.ragged for spec in config.inputs):
        return {}
    dims = {spec.name: spec.dims if spec.reshape is None else spec.reshape for spec in config.inputs}
    if any(size < 1 for shape in dims.values() for size in shape):
        return {}
    preferred = config.dynamic_batching.preferred_batch_sizes if config.dynamic_batching is not None else ()
    rows = (1, max(preferred, default=config.max_batch_size), config.max_batch_size)
    return {
        option: ",".join(f"{name}:{'x'.join(map(str, (count, *shape)))}" for name, shape in dims.items())
        for option, count in zip(_PROFILES, rows, strict=True)
    }


def without_derived_profiles(placement: Placement) -> Placement | None:
    """For a model of which TensorRT takes only parts: it asks for profiles of what is between those as well.

    None where there are none but the model's own.
    """
    providers = tuple(_without_profiles(each) for each in placement.providers)
    return None if providers == placement.providers else replace(placement, providers=providers)


def _without_profiles(provider: Provider) -> Provider:
    dropped = provider.derived.intersection(_PROFILES)
    kept = {key: value for key, value in provider.options.items() if key not in dropped}
    return replace(provider, options=kept, derived=provider.derived - dropped)


def with_tensorrt_defaults(
    places: tuple[Placement, ...], config: ModelConfig, directory: Path | None, model_sha256: str, runtime: str
) -> tuple[tuple[Placement, ...], tuple[str, ...]]:
    """``places`` with what their TensorRT providers are not told, and what operators are to know of it.

    Makes the directories of the caches, for this user only; there are none without ``directory``.
    """
    if not any(provider.name == TENSORRT for place in places for provider in place.providers):
        return places, ()
    notes: tuple[str, ...] = ()
    if directory is not None:
        try:
            for own in _directories(directory, model_sha256, runtime):
                own.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            directory = None
            notes = (f"its TensorRT engines are not kept in --tensorrt-cache-directory: {error.strerror}",)
    return tuple(_completed(place, config, directory, model_sha256, runtime) for place in places), notes


def _completed(place: Placement, config: ModelConfig, directory: Path | None, sha256: str, runtime: str) -> Placement:
    providers = []
    for provider in place.providers:
        added: dict[str, str] = {}
        if provider.name == TENSORRT:
            added = profile_options(provider.options, config)
            added |= {} if directory is None else cache_options(provider.options, directory, sha256, runtime)
        options = {**provider.options, **added}
        providers.append(replace(provider, options=options, derived=provider.derived.union(added)))
    return replace(place, providers=tuple(providers))
