"""BYTES tensors ⇄ length-prefixed bytes: each element is a 4-byte little-endian length, then that many bytes."""

import struct

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import Array

_LENGTH = struct.Struct("<I")


def encode_elements(array: Array) -> bytes:
    """The wire form of an array of ``bytes`` objects, row-major."""
    pieces: list[bytes] = []
    for element in array.ravel().tolist():
        pieces.append(_LENGTH.pack(len(element)))
        pieces.append(element)
    return b"".join(pieces)


def decode_elements(data: bytes | memoryview, count: int, tensor_name: str) -> Array:
    """``count`` elements as a one-dimensional object array of ``bytes``.

    Raises InvalidArgument, naming ``tensor_name``, when the bytes hold more or fewer elements or end inside one.
    """
    # Each element costs at least its length field: a count beyond that is refused before anything is allocated.
    if count * _LENGTH.size > len(data):
        raise InvalidArgument(
            f"input '{tensor_name}' expects {count} string elements, but its {len(data)} bytes hold at most "
            f"{len(data) // _LENGTH.size}"
        )
    # To slice bytes is much faster than to slice a memoryview, even after one more copy.
    return np.array(_elements(bytes(data), count, tensor_name), np.object_)


def _elements(data: bytes, count: int, tensor_name: str) -> list[bytes]:
    found: list[bytes] = []
    start, size = 0, len(data)
    for index in range(count):
        if start == size:
            raise InvalidArgument(
                f"unexpected number of string elements {index} for input '{tensor_name}', expecting {count}"
            )
        if size - start < _LENGTH.size:
            raise _incomplete_length(start, size, tensor_name)
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        end = start + length
        if end > size:
            raise InvalidArgument(
                f"incomplete string data for input '{tensor_name}': element {index} declares {length} bytes, "
                f"{size - start} are left"
            )
        found.append(data[start:end])
        start = end
    if 0 < size - start < _LENGTH.size:
        raise _incomplete_length(start, size, tensor_name)
    # How many more there are is not counted: it may be millions that nobody asked for.
    if start < size:
        raise InvalidArgument(
            f"unexpected number of string elements for input '{tensor_name}', expecting {count}: {size - start} bytes "
            "are left after them"
        )
    return found


def _incomplete_length(start: int, size: int, tensor_name: str) -> InvalidArgument:
    return InvalidArgument(
        f"incomplete string length indicator for input '{tensor_name}': expected {_LENGTH.size} bytes at "
        f"offset {start}, got {size - start}"
    )
