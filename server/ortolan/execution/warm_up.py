"""Warm-up samples and made-up inputs: tensors to run before anyone asks, out of a model's configuration and graph."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.ragged_trial import TrialSession, trial_session
from ortolan.inference.bytes_elements import decode_elements
from ortolan.inference.datatypes import BF16, BOOL, BYTES, Array, bf16_from_float32
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_config import ModelConfig, WarmupData, WarmupInput, WarmupSample
from ortolan.repository.private_files import FileRefused, read_inside

Inputs = Mapping[str, Array]
_TEXT = b"warm up"


def run_samples(config: ModelConfig, session: TrialSession, model_directory: Path) -> None:
    """Run every ``model_warmup`` sample ``count`` times. Raises InvalidArgument, naming the sample, when one fails."""
    names = [output.name for output in config.outputs]
    trial = trial_session(session, config)
    for sample in config.warmup:
        try:
            inputs = sample_inputs(config, sample, model_directory)
            for _ in range(max(1, sample.count)):
                trial.run(inputs, names)
        except OrtolanError as error:
            raise InvalidArgument(f"failed to run warmup sample '{sample.name}': {error}") from error


def sample_inputs(config: ModelConfig, sample: WarmupSample, model_directory: Path) -> Inputs:
    """One sample's tensors in the graph's shapes: ``batch_size`` equal rows for a batching model.

    Raises InvalidArgument, naming the input, when they cannot be made.
    """
    specs = {spec.name: spec for spec in config.inputs}
    _check_names(config, sample)
    rows = max(1, sample.batch_size) if config.max_batch_size else 0
    generator = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for given in sample.inputs:
        declared = specs.get(given.spec.name, given.spec)
        try:
            row = _row(given, model_directory, generator).reshape(_graph_dims(given.spec, declared))
            inputs[given.spec.name] = np.repeat(row[np.newaxis], rows, axis=0) if rows else row
        except (ValueError, MemoryError) as error:
            raise InvalidArgument(
                f"input '{given.spec.name}' cannot be made with dims {list(given.spec.dims)}: {error}"
            ) from error
    return inputs


def _check_names(config: ModelConfig, sample: WarmupSample) -> None:
    known = [spec.name for spec in config.inputs]
    unknown = [given.spec.name for given in sample.inputs if given.spec.name not in known]
    if unknown:
        raise InvalidArgument(
            f"the model has no input {', '.join(map(repr, unknown))}; its inputs are {', '.join(map(repr, known))}"
        )


def _graph_dims(given: TensorSpec, declared: TensorSpec) -> tuple[int, ...]:
    """The sizes of one row in the graph: reshaped where the model says so and it is clear how."""
    reshaped = declared.reshape
    return given.dims if reshaped is None or reshaped.count(-1) > 1 else reshaped


def _row(given: WarmupInput, model_directory: Path, generator: np.random.Generator) -> Array:
    """One row of one input, flat."""
    count = math.prod(given.spec.dims)
    if given.data is WarmupData.FILE:
        return _from_file(given, model_directory, count)
    if given.data is WarmupData.RANDOM and given.spec.datatype is not BYTES:
        return random_elements(given.spec, count, generator)
    # Triton makes random strings empty ones, too.
    return filled(given.spec, count, b"")


def _from_file(given: WarmupInput, model_directory: Path, count: int) -> Array:
    what = f"input '{given.spec.name}'"
    if not stays_inside(given.file):
        raise InvalidArgument(f"{what}: input_data_file must be a relative name inside the model's warmup directory")
    try:
        content = read_inside(model_directory / "warmup" / given.file, model_directory)
    except FileRefused as error:
        raise InvalidArgument(f"{what}: the file '{given.file}' in the model's warmup directory {error}") from error
    if given.spec.datatype is BYTES:
        return decode_elements(content, count, given.spec.name)
    expected = count * given.spec.datatype.size_bytes
    if len(content) != expected:
        raise InvalidArgument(f"{what}: file '{given.file}' has {len(content)} bytes, expected {expected}")
    return np.frombuffer(content, given.spec.datatype.numpy)


def made_up_inputs(config: ModelConfig, rows: int, generator: np.random.Generator | None) -> Inputs:
    """Inputs that fit the declarations: zeros, or random numbers where a generator is given. Free sizes are 1.

    ``rows`` is ignored for a model without a batch dimension.
    """
    inputs: dict[str, Array] = {}
    for spec in config.inputs:
        if spec.optional:
            continue
        shape = [1 if size == -1 else size for size in spec.graph_shape(config.max_batch_size > 0)]
        if config.max_batch_size:
            shape[0] = rows
        count = math.prod(shape)
        elements = filled(spec, count, _TEXT) if generator is None else random_elements(spec, count, generator)
        inputs[spec.name] = elements.reshape(shape)
    return inputs


def filled(spec: TensorSpec, count: int, text: bytes) -> Array:
    """``count`` zeros, or ``text`` as often."""
    if spec.datatype is BYTES:
        elements = np.empty(count, dtype=object)
        elements[:] = [text] * count
        return elements
    return np.zeros(count, spec.datatype.numpy)


def random_elements(spec: TensorSpec, count: int, generator: np.random.Generator) -> Array:
    """``count`` random values: floats in [-1, 1), integers and booleans 0 or 1, which are in range of any table."""
    datatype = spec.datatype
    if datatype is BYTES:
        return filled(spec, count, _TEXT)
    if datatype is BOOL or datatype.is_integer:
        return generator.integers(0, 2, count).astype(datatype.numpy)
    values = generator.uniform(-1, 1, count)
    if datatype is BF16:
        return bf16_from_float32(values.astype(np.float32))
    return values.astype(datatype.numpy)
