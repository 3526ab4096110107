"""Tensors to send: random ones that fit what a model declares, or those of a request that somebody wrote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ortolan.bench.served_model import ModelInput, ServedModel
from ortolan.errors import InvalidArgument, StartupError
from ortolan.inference.datatypes import BF16, BOOL, BYTES, Array, bf16_from_float32
from ortolan.inference.request import Tensor
from ortolan.protocol.json_codec import decode_request

_MOST_BYTES = 32 << 20
_MOST_REQUESTS = 8

Shapes = Mapping[str, tuple[int, ...]]


def random_inputs(model: ServedModel, rows: int, shapes: Shapes, seed: int) -> tuple[tuple[Tensor, ...], ...]:
    """The inputs of several requests of ``rows`` rows, each with other values; fewer where they are large.

    Sizes that may vary are 1, the first ``rows``; ``shapes`` gives the whole shape of one row's inputs by name. Numbers
    are in [-1, 1), integers 0 or 1, which every vocabulary has, texts a word and a number.
    Raises StartupError for a shape that does not fit.
    """
    unknown = shapes.keys() - {each.name for each in model.inputs}
    if unknown:
        known = ", ".join(each.name for each in model.inputs)
        raise StartupError(f"--shape: model '{model.name}' has no input '{min(unknown)}'; it has {known}")
    sizes = {each.name: _shape(each, rows if model.takes_rows else 1, shapes.get(each.name)) for each in model.inputs}
    draw = np.random.default_rng(seed)
    total = sum(int(np.prod(sizes[each.name])) * max(1, each.datatype.size_bytes) for each in model.inputs)
    count = max(1, min(_MOST_REQUESTS, _MOST_BYTES // max(1, total)))
    return tuple(tuple(_tensor(each, sizes[each.name], draw) for each in model.inputs) for _ in range(count))


def inputs_of_file(path: Path) -> tuple[Tensor, ...]:
    """The inputs of the JSON inference request in the file. Raises StartupError if it holds none."""
    try:
        tensors = decode_request("", "", path.read_bytes(), None).inputs
    except OSError as error:
        raise StartupError(f"--request: {path} cannot be read: {error.strerror}") from None
    except InvalidArgument as error:
        raise StartupError(f"--request: {path} holds no inference request as HTTP carries it: {error}") from None
    return tensors


def _shape(declared: ModelInput, rows: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is None:
        given = tuple(1 if size == -1 else size for size in declared.shape)
    elif len(given) != len(declared.shape) or any(b not in (-1, a) for a, b in zip(given, declared.shape, strict=True)):
        raise StartupError(
            f"--shape: input '{declared.name}' is declared as {list(declared.shape)}, which {list(given)} does not fit"
        )
    return (rows * given[0], *given[1:]) if rows > 1 and declared.shape[:1] == (-1,) else given


def _tensor(declared: ModelInput, shape: tuple[int, ...], draw: np.random.Generator) -> Tensor:
    return Tensor(declared.name, declared.datatype, shape, _values(declared, shape, draw))


def _values(declared: ModelInput, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    datatype = declared.datatype
    if datatype is BYTES:
        texts = [b"word %d" % number for number in draw.integers(0, 100, int(np.prod(shape)))]
        return np.array(texts, np.object_).reshape(shape)
    if datatype is BF16:
        return bf16_from_float32(draw.uniform(-1, 1, shape).astype(np.float32))
    if datatype.is_float:
        return draw.uniform(-1, 1, shape).astype(datatype.numpy)
    values = draw.integers(0, 2, shape)
    return values.astype(np.bool_ if datatype is BOOL else datatype.numpy)
