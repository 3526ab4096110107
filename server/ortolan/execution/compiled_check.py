"""Whether two sessions of one model give the same answers, to the last bit."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ortolan.errors import OrtolanError
from ortolan.execution.session import Session
from ortolan.execution.warm_up import Inputs, made_up_inputs, sample_inputs
from ortolan.inference.datatypes import Array
from ortolan.repository.model_config import ModelConfig

# Kernels differ for one row, for a few and for many.
_ROWS = (3, 16)


def trials(config: ModelConfig, model_directory: Path) -> list[Inputs]:
    """What to try a model with: its warm-up samples, zeros, and random numbers in one row and in more.

    ``config`` is a completed one; ``model_directory`` is where its samples' files are. Raises InvalidArgument when a
    sample cannot be made.
    """
    samples = [sample_inputs(config, sample, model_directory) for sample in config.warmup]
    generator = np.random.default_rng(0)
    counts = {min(rows, max(1, config.max_batch_size)) for rows in (1, *_ROWS)}
    made_up = [made_up_inputs(config, rows, generator) for rows in sorted(counts)]
    return [*samples, made_up_inputs(config, 1, None), *made_up]


def answers(session: Session, inputs: Sequence[Inputs]) -> list[str]:
    """A hash of all outputs for each of ``inputs``; "" for those that the model refuses."""
    names = [output.name for output in session.signature.outputs]
    return [_answer(session, names, each) for each in inputs]


def _answer(session: Session, names: Sequence[str], inputs: Inputs) -> str:
    try:
        outputs = session.run(inputs, names)
    except OrtolanError:
        return ""
    sha256 = hashlib.sha256()
    for array in outputs:
        for part in _parts(array):
            sha256.update(part)
    return sha256.hexdigest()


def _parts(array: Array) -> Iterator[bytes]:
    """The bytes of an array with what tells it from another one that has the same."""
    yield f"{array.dtype.str} {array.shape};".encode()
    if array.dtype == object:
        for text in array.ravel().tolist():
            yield f"{len(text)}:".encode()
            yield text
    else:
        yield array.tobytes()
