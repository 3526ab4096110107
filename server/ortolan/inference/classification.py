"""The classification extension: the K largest elements of an output as ``value:index[:label]`` strings. Pure.

The forms are Triton's (``classification.cc``): floats with six decimals, integers plain, the label only where the
output has one for that index.
"""

import math
from collections.abc import Sequence

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BF16, BOOL, BYTES, FP16, Array, Datatype
from ortolan.inference.request import Tensor

MAX_ELEMENTS = 1_000_000
"""As many as an output may have to be classified: sorting them and writing them all takes more than a second."""

_WITHOUT_CLASSES = (BOOL, BYTES, FP16, BF16)


def check_classifiable(output_name: str, datatype: Datatype) -> None:
    """Raises InvalidArgument for the datatypes that have no order to speak of."""
    if datatype in _WITHOUT_CLASSES:
        raise InvalidArgument(
            f"class result not available for output '{output_name}' due to unsupported type '{datatype.name}'"
        )


def classified(tensor: Tensor, class_count: int, batching: bool, labels: Sequence[str]) -> Tensor:
    """``tensor`` as BYTES of shape ``[batch,] min(class_count, elements)``, largest first in each row.

    Raises InvalidArgument for the datatypes that have no order to speak of, and above ``MAX_ELEMENTS``.
    """
    check_classifiable(tensor.name, tensor.datatype)
    if tensor.array.size > MAX_ELEMENTS:
        raise InvalidArgument(
            f"output '{tensor.name}' has {tensor.array.size} elements, and at most {MAX_ELEMENTS} can be classified; "
            "ask for it without 'classification'"
        )
    batch = tensor.shape[:1] if batching else ()
    rows = tensor.array.reshape(*(batch or (1,)), math.prod(tensor.shape[len(batch) :]))
    count = min(class_count, rows.shape[1])
    elements = np.empty((len(rows), count), dtype=object)
    for row, values in enumerate(rows):
        elements[row] = [_text(values, index, labels) for index in _largest(values, count)]
    array = elements.reshape((*batch, count))
    return Tensor(tensor.name, BYTES, array.shape, array)


def _largest(values: Array, count: int) -> list[int]:
    """The indices of the ``count`` largest values, largest first; of equal ones the lowest index first."""
    if values.dtype.kind == "f":
        # A NaN has no place in an order; it comes last.
        values = np.where(np.isnan(values), -np.inf, values)
    # Reversed, a stable ascending sort puts the largest first; reversing the input too keeps equal ones in order.
    ascending = np.argsort(values[::-1], kind="stable")[::-1][:count]
    return [len(values) - 1 - int(index) for index in ascending]


def _text(values: Array, index: int, labels: Sequence[str]) -> bytes:
    value = values[index]
    number = f"{value:f}" if values.dtype.kind == "f" else str(value)
    label = f":{labels[index]}" if index < len(labels) and labels[index] else ""
    return f"{number}:{index}{label}".encode()
