"""Tensor elements as JSON ⇄ numpy arrays, exactly or not at all.

Shapes are checked before anything is allocated, and no element is converted that JSON spells as another type: ``true``
is not 1, ``1.5`` is not an integer and ``"1"`` is not a number.
"""

import json
import math
import struct
from array import array as packed_array
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.request import Tensor
from ortolan.protocol.json_fields import described, wrong_type

MAX_DIMENSIONS = 32
"""As many as every supported numpy has."""

# What no array can have: its size in bytes would not fit in 63 bits, even at 8 bytes an element.
_MAX_ELEMENTS = (2**63 - 1) // 8

# Up to so many elements, struct packs a list of numbers four times as fast as a typed array takes it.
_FEW_ELEMENTS = 65_536

# The standard library's typed arrays take exactly the numbers of their type and nothing else but booleans, faster than
# numpy guesses a type. FP16 is rounded once, from the double; BF16 goes by way of FP32.
_PACKED_TYPES = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "d", "BF16": "f", "FP32": "f", "FP64": "d",
}  # fmt: skip


def element_count(shape: object, name: str) -> int:
    """The number of elements of a JSON ``shape``; raises InvalidArgument when it is no shape that an array can have."""
    if not isinstance(shape, list):
        raise wrong_type(f"'shape' of input '{name}'", "an array of integers", shape)
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidArgument(
            f"'shape' of input '{name}' has {len(shape)} dimensions, at most {MAX_DIMENSIONS} are accepted"
        )
    for size in shape:
        if type(size) is not int:
            raise wrong_type(f"each dimension of input '{name}'", "an integer", size)
        if size < 0:
            raise InvalidArgument(f"dimensions of input '{name}' must not be negative, got {size} in {shape}")
    count = math.prod(shape)
    # Zero times too much is nothing, but numpy refuses it all the same.
    if math.prod(filter(None, shape)) > _MAX_ELEMENTS if count == 0 else count > _MAX_ELEMENTS:
        raise InvalidArgument(f"element count overflow: the shape {shape} of input '{name}' is larger than any tensor")
    return count


def array_from_json(
    data: object, datatype: Datatype, shape: tuple[int, ...], count: int, name: str, may_hold_booleans: bool
) -> Array:
    """The array of ``data``, flat or nested in whatever way, whose ``count`` elements fill ``shape`` in order.

    ``may_hold_booleans`` False promises that ``data`` has no boolean in it. Raises InvalidArgument for elements of
    another JSON type or out of the datatype's range, for ragged nesting and for another count.
    """
    if not isinstance(data, list):
        raise wrong_type(f"'data' of input '{name}'", "an array", data)
    elements = flattened(data, f"'data' of input '{name}'")
    if len(elements) != count:
        raise InvalidArgument(
            f"unexpected number of elements in 'data' of input '{name}': its shape {list(shape)} needs {count}, "
            f"got {len(elements)}"
        )
    if datatype is datatypes.BOOL or datatype is datatypes.BYTES:
        return _booleans_or_bytes(elements, datatype, name).reshape(shape)
    if may_hold_booleans and bool in map(type, elements):
        raise _misfit(elements, datatype, name)
    return _numbers(elements, datatype, name).reshape(shape)


def flattened(data: list[Any], what: str) -> list[Any]:
    """The elements of nested lists, row-major; ``what`` is what they are called in messages.

    Raises InvalidArgument for ragged nesting. An element may still be a list where its first neighbour is none.
    """
    level = data
    while level and type(level[0]) is list:
        if len(level) == 1:
            level = level[0]
            continue
        lists = [element for element in level if isinstance(element, list)]
        if len(lists) != len(level) or len(set(map(len, lists))) != 1:
            raise InvalidArgument(f"{what} is ragged: every array at the same depth must have the same length")
        level = list(chain.from_iterable(lists))
    return level


def json_elements(tensor: Tensor) -> object:
    """What orjson, with its numpy option, writes as the flat list of the tensor's elements. NaN and infinities it
    writes as ``null``: see ``with_non_finite_tokens``. Raises InvalidArgument for BYTES that are not UTF-8."""
    flat = tensor.array.ravel()
    if tensor.datatype is datatypes.BYTES:
        return _texts(flat, tensor.name)
    if tensor.datatype is datatypes.BF16:
        return datatypes.float32_from_bf16(flat.astype(np.uint16, copy=False))
    # orjson reads the memory as it lies.
    return flat if flat.flags.aligned else flat.copy()


def with_non_finite_tokens(elements: object) -> object:
    """The same elements; where there are NaN or infinities, they are written as Triton writes them."""
    if not isinstance(elements, np.ndarray) or elements.dtype.kind != "f" or np.isfinite(elements).all():
        return elements
    return orjson.Fragment(json.dumps(elements.tolist(), separators=(",", ":")))


def _booleans_or_bytes(elements: list[Any], datatype: Datatype, name: str) -> Array:
    kind = bool if datatype is datatypes.BOOL else str
    if elements and set(map(type, elements)) != {kind}:
        raise _misfit(elements, datatype, name)
    if kind is bool:
        return np.array(elements, np.bool_)
    return np.array([element.encode() for element in elements], np.object_)


def _numbers(elements: list[Any], datatype: Datatype, name: str) -> Array:
    code = _PACKED_TYPES[datatype.name]
    # Of numpy's two names for 64 bits "q" is the one that is not int64, and orjson does not know it in numbers.
    packed_as = datatype.numpy if datatype.is_integer else code
    try:
        few = len(elements) <= _FEW_ELEMENTS
        packed = struct.pack(f"{len(elements)}{code}", *elements) if few else packed_array(code, elements)
        numbers = np.frombuffer(packed, packed_as)
    except (TypeError, OverflowError, struct.error) as error:
        raise _misfit(elements, datatype, name) from error
    if datatype is datatypes.FP16:
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float16)
    if datatype is datatypes.BF16:
        bits = datatypes.bf16_from_float32(numbers)
        _refuse_overflow(elements, datatypes.float32_from_bf16(bits), datatype, name)
        return bits
    if datatype.is_float:
        _refuse_overflow(elements, numbers, datatype, name)
    return numbers


def _refuse_overflow(elements: list[Any], numbers: npt.NDArray[np.floating], datatype: Datatype, name: str) -> None:
    finite = np.isfinite(numbers)
    if finite.all():
        return
    for index in np.flatnonzero(~finite):
        element = elements[index]
        if isinstance(element, int | float) and math.isfinite(element):
            raise InvalidArgument(
                f"element {index} of input '{name}' does not fit: {described(element)} is too large for {datatype.name}"
            )


def _misfit(elements: list[Any], datatype: Datatype, name: str) -> InvalidArgument:
    for index, element in enumerate(elements):
        if not _fits(element, datatype):
            return wrong_type(f"element {index} of input '{name}'", _wanted(datatype), element)
    return InvalidArgument(f"the elements of input '{name}' must each be {_wanted(datatype)}")


def _fits(element: object, datatype: Datatype) -> bool:
    if datatype.is_integer:
        limits = np.iinfo(datatype.name.lower())
        return type(element) is int and limits.min <= element <= limits.max
    if datatype.is_float:
        return type(element) in (int, float)
    return type(element) is (bool if datatype is datatypes.BOOL else str)


def _wanted(datatype: Datatype) -> str:
    if datatype.is_integer:
        limits = np.iinfo(datatype.name.lower())
        return f"an integer from {limits.min} to {limits.max}, because the datatype is {datatype.name}"
    word = {"BOOL": "true or false", "BYTES": "a string"}.get(datatype.name, "a number")
    return f"{word}, because the datatype is {datatype.name}"


def _texts(flat: Array, name: str) -> list[str]:
    try:
        return [element.decode() for element in flat.tolist()]
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"output '{name}' has bytes that are not UTF-8 and cannot be sent as JSON: ask for it with the parameter "
            "'binary_data': true"
        ) from error
