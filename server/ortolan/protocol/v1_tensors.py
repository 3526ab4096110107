"""Values as KServe's v1 protocol nests them → tensors: nesting is the shape, ``{"b64": …}`` is one BYTES element."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Array
from ortolan.inference.request import Tensor
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.protocol.json_fields import wrong_type
from ortolan.protocol.json_tensors import array_from_json, flattened

BASE64 = "b64"
_Shape = tuple[int, ...]


def whole_tensor(value: object, spec: TensorSpec, dims: _Shape, where: str, may_hold_booleans: bool) -> Tensor:
    """The tensor that is ``value``, whose shape must be one of ``dims``. ``where`` begins the message of a refusal.

    Raises InvalidArgument for another shape, ragged lists and elements of another type or out of range.
    """
    shape = fitted(value, dims)
    if shape is None:
        raise _misfit(value, spec, dims, where)
    try:
        return _tensor(value, spec, shape, may_hold_booleans)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error.message}") from error


def stacked_tensor(values: list[Any], spec: TensorSpec, dims: _Shape, key: str, may_hold_booleans: bool) -> Tensor:
    """The tensor whose rows are ``values``, each of the same shape, which must be one of ``dims``.

    Raises as ``whole_tensor`` does, naming the value at fault: ``key[3]``.
    """
    shape = fitted(values[0], dims)
    if shape is None:
        raise _misfit(values[0], spec, dims, f"{key}[0]")
    try:
        return _tensor(values, spec, (len(values), *shape), may_hold_booleans)
    except InvalidArgument:
        # To look at each value takes far longer than to take all of them at once.
        for index, value in enumerate(values):
            _refuse_if_wrong(value, values[0], spec, dims, f"{key}[{index}]", may_hold_booleans)
        raise


def fitted(value: object, dims: _Shape) -> _Shape | None:
    """The shape of ``value`` as one of ``dims`` (-1: any size), else None. A last dimension of 1 may be left out."""
    shape = _nesting(value)
    if len(shape) == len(dims) - 1 and dims[-1] == 1:
        shape = (*shape, 1)
    if len(shape) != len(dims) or any(dim not in (-1, size) for size, dim in zip(shape, dims, strict=True)):
        return None
    return shape


def is_base64(value: object) -> bool:
    """Whether ``value`` is an object that stands for one BYTES element."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(BASE64), str)


def text_or_base64(element: bytes) -> object:
    """One BYTES element for an answer: its text if it is UTF-8, else ``{"b64": …}``."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(element).decode()}


def _nesting(value: object) -> _Shape:
    """The shape of nested lists that are not ragged; () for a value that is no list."""
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return tuple(sizes)


def _misfit(value: object, spec: TensorSpec, dims: _Shape, where: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where}: the value of input '{spec.name}' has the shape {list(_nesting(value))}, expected {list(dims)} "
        "(-1: any size)"
    )


def _refuse_if_wrong(
    value: object, first: object, spec: TensorSpec, dims: _Shape, where: str, may_hold_booleans: bool
) -> None:
    if _nesting(value) != _nesting(first):
        raise InvalidArgument(
            f"{where}: the value of input '{spec.name}' has the shape {list(_nesting(value))}, that of the first "
            f"{list(_nesting(first))}: all must have the same"
        )
    whole_tensor(value, spec, dims, where, may_hold_booleans)


def _tensor(value: object, spec: TensorSpec, shape: _Shape, may_hold_booleans: bool) -> Tensor:
    elements = flattened(value, f"the value of input '{spec.name}'") if isinstance(value, list) else [value]
    if spec.datatype is datatypes.BYTES:
        array = _bytes_array(elements, spec.name).reshape(shape)
    else:
        array = array_from_json(elements, spec.datatype, shape, len(elements), spec.name, may_hold_booleans)
    return Tensor(spec.name, spec.datatype, shape, array)


def _bytes_array(elements: Sequence[Any], name: str) -> Array:
    return np.array([_bytes(element, index, name) for index, element in enumerate(elements)], np.object_)


def _bytes(element: Any, index: int, name: str) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if not is_base64(element):
        raise wrong_type(f"element {index} of input '{name}'", f'a string or {{"{BASE64}": a string}}', element)
    try:
        return base64.b64decode(element[BASE64], validate=True)
    except ValueError as error:
        raise InvalidArgument(f"'{BASE64}' of element {index} of input '{name}' is not base64: {error}") from error
