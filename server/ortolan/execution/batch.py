"""Requests → one input, one output → answers. Pure numpy.

Every request of a batch has the same input names, datatypes and shapes but for the first dimension, its rows.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ortolan.errors import Internal
from ortolan.inference.datatypes import Array

Inputs = Mapping[str, Array]


def stack(requests: Sequence[Inputs]) -> Inputs:
    """The inputs of several requests, joined along their first dimension; a single request's are taken as they are."""
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def split(outputs: Sequence[Array], output_names: Sequence[str], rows: Sequence[int]) -> list[list[Array]]:
    """For each request its part of every output, as views.

    Raises Internal when an output does not keep the batch dimension, so that it cannot be told whose rows are whose.
    """
    total = sum(rows)
    for name, output in zip(output_names, outputs, strict=True):
        if not output.shape or output.shape[0] != total:
            raise Internal(
                f"output '{name}' has shape {list(output.shape)} for a batch of {total} rows: it does not keep the "
                "batch dimension, so this model must not be batched. Set max_batch_size to 0 in its config.pbtxt."
            )
    parts: list[list[Array]] = []
    start = 0
    for count in rows:
        parts.append([output[start : start + count] for output in outputs])
        start += count
    return parts
