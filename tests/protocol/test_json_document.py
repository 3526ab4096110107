"""Reading JSON text: how deep it may be, which numbers it may hold, and where booleans may hide."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.protocol.json_document import MAX_DEPTH, may_hold_booleans, parse_object, refuse_deep_nesting

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def document_of_depth(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return ('{"a":' + opening * (depth - 1) + closing * (depth - 1) + "}").encode()


def test_nesting_is_accepted_to_the_last_level_and_no_further():
    assert parse_object(document_of_depth(MAX_DEPTH))
    with pytest.raises(InvalidArgument, match="nested too deep: at most 100 levels"):
        parse_object(document_of_depth(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "value",
    [
        "[" * 500,  # brackets in a string are no nesting
        '"[' * 500,  # nor are they after a quote that is escaped
        "\\" + "[" * 500,
        [[1, 2]] * 500,  # and many arrays side by side are not deep
        [{"a": [{}]}] * 500,
    ],
)
def test_only_nesting_counts_as_depth(value):
    text = json.dumps({"a": value}).encode()
    assert parse_object(text) == {"a": value}


@pytest.mark.parametrize("inside", ["]" * 500, '"]', "\\", '\\"]'])
def test_brackets_in_strings_do_not_hide_depth(inside):
    text = '{"a":[' + json.dumps(inside) + "," + "[" * 100 + "]" * 100 + "]}"
    with pytest.raises(InvalidArgument, match="nested too deep"):
        refuse_deep_nesting(text.encode())


@given(st.dictionaries(st.text(), VALUES), st.booleans())
def test_what_the_standard_library_writes_is_read_back(document, with_nan):
    numbers = [np.inf, -np.inf] if with_nan else []
    assert parse_object(json.dumps({**document, "?": numbers}).encode()) == {**document, "?": numbers}


@given(st.lists(st.booleans() | st.floats() | st.text("trufalse", max_size=6), min_size=1, max_size=80))
def test_a_boolean_is_never_overlooked(elements):
    assert may_hold_booleans(json.dumps(elements).encode()) or not any(type(element) is bool for element in elements)


def test_a_plain_request_holds_no_boolean():
    assert not may_hold_booleans(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[1,2.5,-1e-7]}]}')


@pytest.mark.parametrize("other", ["", "NaN,"])
@pytest.mark.parametrize(
    ("digits", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", -(2.0**63)),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1" + "0" * 300, 1e300),
    ],
)
def test_numbers_are_the_same_whichever_library_reads_them(digits, value, other):
    document = parse_object(f'{{"a":[{other}{digits}]}}'.encode())
    read = document["a"][-1]
    assert (read, type(read), str(read)) == (value, type(value), str(value))


def test_compressed_data_that_nothing_announces_are_told_which_header_does() -> None:
    with pytest.raises(InvalidArgument, match="Content-Encoding: gzip"):
        parse_object(gzip.compress(b"{}"))
    with pytest.raises(InvalidArgument) as refused:
        parse_object(b"\xff")
    assert "gzip" not in refused.value.message
