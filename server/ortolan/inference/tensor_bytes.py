"""A tensor's elements ⇄ their bytes, row-major, little-endian and without padding, as they travel and are shared."""

import numpy as np

from ortolan.inference import datatypes
from ortolan.inference.bytes_elements import decode_elements, encode_elements
from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.request import Tensor

# To make a view takes 0.8 us, and to copy so many bytes half of that.
_CHEAP_TO_COPY_BYTES = 16 << 10


def array_from_bytes(
    data: bytes | memoryview, offset: int, size: int, datatype: Datatype, shape: tuple[int, ...], count: int, name: str
) -> Array:
    """The array whose elements are the ``size`` bytes of ``data`` at ``offset``: a view of them, perhaps not aligned.

    ``size`` must be right for ``count``, except for BYTES. BYTES and BOOL are copied; each BOOL that is not 0 is True:
    a numpy bool that holds anything else is undefined, and clients decide these bytes.
    Raises InvalidArgument for BYTES that are not ``count`` elements.
    """
    if datatype is datatypes.BYTES:
        return decode_elements(memoryview(data)[offset : offset + size], count, name).reshape(shape)
    if datatype is datatypes.BOOL:
        return np.ndarray(shape, np.uint8, data, offset).astype(np.bool_)
    return np.ndarray(shape, datatype.numpy, data, offset)


def element_bytes(tensor: Tensor) -> bytes | memoryview:
    """The bytes of the tensor's elements; of large ones a view, where the array is contiguous and not of BYTES."""
    if tensor.datatype is datatypes.BYTES:
        return encode_elements(tensor.array)
    return number_bytes(tensor.array)


def number_bytes(array: Array) -> bytes | memoryview:
    """As ``element_bytes``, of any array but one of BYTES."""
    if array.nbytes <= _CHEAP_TO_COPY_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
