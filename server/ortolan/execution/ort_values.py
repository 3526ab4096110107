"""ONNX Runtime's values on the host, as arrays."""

import ctypes
from typing import Any

import numpy as np

from ortolan.inference.datatypes import BF16, Array, Datatype


def array_of(value: Any, datatype: Datatype) -> Array:
    """The array of an OrtValue of numbers, in the runtime's memory; BF16 as a copy of its bits, as numpy has no such
    type."""
    array: Array = bits_of(value) if datatype is BF16 else value.numpy()
    return array


def bits_of(value: Any) -> Array:
    """The 16 bits of each bfloat16 element, copied out of the runtime's memory."""
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, BF16.numpy)
    buffer = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.frombuffer(memoryview(buffer), BF16.numpy).reshape(shape).copy()
