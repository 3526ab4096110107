"""Elements and their bytes: whatever becomes bytes becomes the same elements again."""

import numpy as np
import pytest

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BOOL, BYTES, DATATYPES, FP32, Datatype
from ortolan.inference.request import Tensor
from ortolan.inference.tensor_bytes import array_from_bytes, element_bytes

# Small tensors are copied, large ones viewed.
SHAPES = [(), (0,), (0, 3), (3,), (2, 1, 2), (200, 100)]


def filled(datatype: Datatype, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    if datatype is not BYTES:
        return (numbers % 100).astype(datatype.numpy)
    words = np.empty(shape, np.object_)
    words.ravel()[:] = [b"\xff" * (number % 7) for number in range(numbers.size)]
    return words


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
def test_bytes_become_the_elements_that_they_were(datatype: Datatype, shape: tuple[int, ...]) -> None:
    array = filled(datatype, shape)
    data = bytes(element_bytes(Tensor("x", datatype, shape, array)))
    assert datatype is BYTES or len(data) == array.size * datatype.size_bytes
    found = array_from_bytes(b"\0\0\0" + data + b"\0", 3, len(data), datatype, shape, array.size, "x")
    assert (found.shape, found.dtype) == (shape, datatype.numpy)
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("step", [1, -1, 3])
@pytest.mark.parametrize("rows", [6, 60_000])
def test_elements_are_taken_in_their_order_however_they_lie(rows: int, step: int) -> None:
    array = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)[::step].T
    assert bytes(element_bytes(Tensor("x", FP32, array.shape, array))) == array.tobytes()


def test_numbers_are_a_view_and_truths_are_made_sound() -> None:
    data = bytearray(b"\0\0\x80\x3f\0\2\xff\1")
    view = array_from_bytes(memoryview(data), 0, 4, FP32, (1,), 1, "x")
    data[2:4] = b"\0\x40"
    assert view.tolist() == [2.0]
    assert array_from_bytes(data, 4, 4, BOOL, (4,), 4, "x").tobytes() == b"\0\1\1\1"


def test_bytes_that_are_not_so_many_words_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="number of string elements for input 'x', expecting 1: 4 bytes are left"):
        array_from_bytes(b"\0" * 8, 0, 8, BYTES, (1,), 1, "x")
