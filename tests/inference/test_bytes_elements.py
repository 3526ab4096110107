"""BYTES elements and their length-prefixed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference.bytes_elements import decode_elements, encode_elements


@given(st.lists(st.binary(max_size=9)))
def test_what_is_encoded_decodes_to_the_same_elements(elements):
    encoded = encode_elements(np.array(elements, np.object_))
    for data in (encoded, memoryview(b"." + encoded)[1:]):
        decoded = decode_elements(data, len(elements), "x")
        assert decoded.tolist() == elements
        assert (decoded.dtype, decoded.shape) == (np.dtype("O"), (len(elements),))


def test_elements_are_written_row_by_row_whatever_the_layout():
    array = np.array([[b"a", b"b\0"], [b"", b"\0"]], np.object_)
    assert encode_elements(array) == b"\1\0\0\0a\2\0\0\0b\0\0\0\0\0\1\0\0\0\0"
    assert encode_elements(array.T) == b"\1\0\0\0a\0\0\0\0\2\0\0\0b\0\1\0\0\0\0"
    assert encode_elements(np.array(b"ab", np.object_)) == b"\2\0\0\0ab"


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (b"", 1, "input 'x' expects 1 string elements, but its 0 bytes hold at most 0"),
        (b"\0\0\0\0", 2**62, "but its 4 bytes hold at most 1"),
        (
            b"\0\0\0\0",
            0,
            "unexpected number of string elements for input 'x', expecting 0: 4 bytes are left after them",
        ),
        (b"\0\0\0\0\0\0\0\0", 1, "string elements for input 'x', expecting 1: 4 bytes are left after them"),
        # What comes after the last that was asked for is not looked at, and may be no elements at all.
        (b"\0\0\0\0\xff\xff\xff\xff", 1, "expecting 1: 4 bytes are left after them"),
        (b"\4\0\0\0abcd", 2, "unexpected number of string elements 1 for input 'x', expecting 2"),
        (b"\1\0\0\0ab", 1, "incomplete string length indicator for input 'x': expected 4 bytes at offset 5, got 1"),
        (b"\2\0\0\0a", 1, "incomplete string data for input 'x': element 0 declares 2 bytes, 1 are left"),
        (b"\0\0\0\0\xff\xff\xff\xff", 2, "element 1 declares 4294967295 bytes, 0 are left"),
    ],
)
def test_bytes_that_do_not_hold_the_elements_are_refused(data, count, message):
    with pytest.raises(InvalidArgument) as raised:
        decode_elements(data, count, "x")
    assert message in raised.value.message


@given(st.binary(max_size=40), st.integers(0, 6))
def test_whatever_bytes_come_only_invalid_argument_is_raised(data, count):
    try:
        decoded = decode_elements(data, count, "x")
    except InvalidArgument:
        return
    assert encode_elements(decoded) == data
