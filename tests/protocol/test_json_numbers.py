"""JSON requests that differ in their numbers are read as if all of their text were read."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.protocol.json_codec import decode_request
from ortolan.protocol.json_numbers import JsonNumbers, numbers_of


def body(data: object, datatype: str = "FP32", shape: tuple[int, ...] = (1, 3), **more: object) -> bytes:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def learned(text: bytes) -> JsonNumbers:
    numbers = numbers_of(decode_request("m", "", text, None), text)
    assert numbers is not None
    return numbers


def read(numbers: JsonNumbers, text: bytes) -> np.ndarray | None:
    data = b"head" + text
    return numbers.array(data, 4) if numbers.surrounds(data, 4) else None


ELEMENTS = {
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
    "FP16": st.floats(width=16, allow_nan=False, allow_infinity=False),
    "BF16": st.floats(-1e30, 1e30),
    "FP64": st.floats(allow_nan=False, allow_infinity=False),
    "INT8": st.integers(-128, 127),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
}


@given(st.sampled_from(sorted(ELEMENTS)).flatmap(lambda name: st.tuples(st.just(name), _lists(name))))
def test_other_numbers_are_those_of_the_whole_text(asked: tuple[str, list[object]]) -> None:
    datatype, data = asked
    numbers = learned(body([0, 0, 0], datatype, id="a"))
    text = body(data, datatype, id="a")
    tensor = decode_request("m", "", text, None).inputs[0]
    found = read(numbers, text)
    assert found is not None
    assert (found.dtype, found.shape) == (tensor.array.dtype, tensor.array.shape)
    np.testing.assert_array_equal(found, tensor.array)


def _lists(datatype: str) -> st.SearchStrategy[list[object]]:
    return st.lists(ELEMENTS[datatype], min_size=3, max_size=3)


@pytest.mark.parametrize("data", [[[1, 2, 3]], [[1], [2], [3]], [1, 2.5, -3e2], [1, 2, 3.0]])
def test_numbers_may_be_nested_as_they_like(data: list[object]) -> None:
    numbers = learned(body([0, 0, 0]))
    text = body(data)
    np.testing.assert_array_equal(read(numbers, text), decode_request("m", "", text, None).inputs[0].array)


@pytest.mark.parametrize(
    "data",
    [
        b"[1, 2]",
        b"[1, 2, 3, 4]",
        b'[1, 2, "3"]',
        b"[1, 2, true]",
        b"[1, 2, null]",
        b"[1, 2, 1e999]",
        b"[1, 2, 1e39]",
        b"[NaN, 2, 3]",
        b"[[1, 2], [3]]",
        b"[1, 2, 3",
        b"[1, 2, 3], 4",
        b'[1, 2, 3], "shape": [3, 1]',
        b'[1, 2, 3]}], "parameters": {"a": 1}, "inputs": [{"data": [1, 2, 3]',
        b"1, 2, 3",
        b"[" * 200 + b"1, 2, 3" + b"]" * 200,
        b"{}",
        b"",
    ],
)
def test_what_is_no_list_of_such_numbers_is_for_the_whole_text(data: bytes) -> None:
    numbers = learned(body([0, 0, 0]))
    assert read(numbers, numbers.before + data + numbers.behind) is None


@pytest.mark.parametrize("depth", [1, 30, 39, 50, 96, 97, 98, 120])
def test_numbers_are_nested_no_deeper_than_the_whole_text_may_be(depth: int) -> None:
    numbers = learned(body([0, 0, 0]))
    text = numbers.before + b"[" * depth + b"1, 2, 3" + b"]" * depth + numbers.behind
    try:
        expected = decode_request("m", "", text, None).inputs[0].array
    except InvalidArgument:
        assert read(numbers, text) is None
    else:
        np.testing.assert_array_equal(read(numbers, text), expected)


def test_text_around_that_differs_is_not_the_same() -> None:
    numbers = learned(body([0, 0, 0], id="a"))
    for other in (body([1, 2, 3], id="b"), body([1, 2, 3]), body([1, 2, 3], shape=(3, 1), id="a"), b"", b"{}"):
        assert read(numbers, other) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [9], "data": [1]}]}',
        b'{"parameters": {"data": "[1]"}, "id": "\\"data\\": [1]", "inputs":'
        b' [{"name": "x", "datatype": "FP32", "shape": [1], "d\\u0061ta": [1]}]}',
        b'{"inputs": [{"name": "\\"data\\":[1]", "datatype": "FP32", "shape": [1], "d\\u0061ta": [1]}]}',
        body(["a", "b", "c"], "BYTES"),
        body([True, False, True], "BOOL"),
        json.dumps({"inputs": [{"name": n, "datatype": "FP32", "shape": [1], "data": [1]} for n in "xy"]}).encode(),
        body([1, 2, 3], id="x" * 4000),
    ],
    ids=["data twice", "data in a text", "data in a name", "texts", "booleans", "two tensors", "long"],
)
def test_requests_whose_numbers_cannot_be_told_apart_teach_nothing(text: bytes) -> None:
    assert numbers_of(decode_request("m", "", text, None), text) is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_names_and_ids_of_any_kind_do_not_mislead(name: str, request_id: str) -> None:
    def text(value: float) -> bytes:
        tensor = {"datatype": "FP32", "shape": [1], "name": name, "data": [value], "parameters": {}}
        return json.dumps({"id": request_id, "inputs": [tensor]}).encode()

    try:
        first = decode_request("m", "", text(1), None)
    except InvalidArgument:
        return
    numbers = numbers_of(first, text(1))
    if numbers is not None:
        np.testing.assert_array_equal(read(numbers, text(2)), [2])
