from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.inference.bytes_elements import encode_elements
from ortolan.inference.datatypes import BY_NAME
from ortolan.protocol.protobuf_messages import ModelInferRequest
from ortolan.protocol.protobuf_tensors import input_tensors

# Each datatype that can be sent typed: its field and its values' strategy.
TYPED: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "BOOL": ("bool_contents", st.booleans()),
    "INT8": ("int_contents", st.integers(-(2**7), 2**7 - 1)),
    "INT16": ("int_contents", st.integers(-(2**15), 2**15 - 1)),
    "INT32": ("int_contents", st.integers(-(2**31), 2**31 - 1)),
    "INT64": ("int64_contents", st.integers(-(2**63), 2**63 - 1)),
    "UINT8": ("uint_contents", st.integers(0, 2**8 - 1)),
    "UINT16": ("uint_contents", st.integers(0, 2**16 - 1)),
    "UINT32": ("uint_contents", st.integers(0, 2**32 - 1)),
    "UINT64": ("uint64_contents", st.integers(0, 2**64 - 1)),
    "FP32": ("fp32_contents", st.floats(width=32, allow_nan=False)),
    "FP64": ("fp64_contents", st.floats(allow_nan=False)),
    "BYTES": ("bytes_contents", st.binary(max_size=6)),
}


def _request(*inputs: dict[str, Any]) -> Any:
    return ModelInferRequest(model_name="m", inputs=[{"name": "x", **fields} for fields in inputs])


def _typed(datatype: str, shape: list[int], **contents: Any) -> Any:
    return _request({"datatype": datatype, "shape": shape, "contents": contents})


def _raw(datatype: str, shape: list[int]) -> Any:
    return _request({"datatype": datatype, "shape": shape})


@pytest.mark.parametrize("name", TYPED)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_typed_contents_and_raw_contents_give_the_same_tensor(name: str, data: st.DataObject) -> None:
    field, values_of = TYPED[name]
    values = data.draw(st.lists(values_of, max_size=6))
    datatype = BY_NAME[name]
    expected = np.empty(len(values), datatype.numpy)
    expected[:] = values
    raw = encode_elements(expected) if name == "BYTES" else expected.tobytes()
    for tensor in (
        input_tensors(_typed(name, [1, len(values)], **{field: values}), [])[0],
        input_tensors(_raw(name, [1, len(values)]), [raw])[0],
    ):
        assert (tensor.name, tensor.datatype, tensor.shape) == ("x", datatype, (1, len(values)))
        assert tensor.array.dtype == datatype.numpy
        assert tensor.array.shape == tensor.shape
        assert tensor.array.reshape(-1).tolist() == expected.tolist()


def test_raw_contents_belong_to_the_inputs_in_order() -> None:
    request = _request(
        {"name": "a", "datatype": "INT8", "shape": [1]}, {"name": "b", "datatype": "UINT8", "shape": [2]}
    )
    first, second = input_tensors(request, [b"\xff", b"\x01\x02"])
    assert (first.name, first.array.tolist(), second.name, second.array.tolist()) == ("a", [-1], "b", [1, 2])


def test_a_numeric_raw_tensor_is_a_view() -> None:
    raw = bytearray(b"\0" * 8)
    (tensor,) = input_tensors(_raw("FP32", [2]), [memoryview(raw)])
    raw[3] = 0x40
    assert tensor.array.tolist() == [2.0, 0.0]


def test_any_nonzero_byte_of_a_bool_is_true() -> None:
    (tensor,) = input_tensors(_raw("BOOL", [4]), [b"\x00\x01\x02\xff"])
    assert tensor.array.tobytes() == b"\x00\x01\x01\x01"


def test_a_scalar_has_one_element_and_no_dimension() -> None:
    (tensor,) = input_tensors(_raw("INT32", []), [b"\x07\0\0\0"])
    assert (tensor.shape, tensor.array.shape, tensor.array.item()) == ((), (), 7)


@pytest.mark.parametrize("datatype", BY_NAME)
@pytest.mark.parametrize("shape", [[0], [2, 0, 3], [0, 2**20, 2**20]])
def test_an_empty_tensor_keeps_its_shape(datatype: str, shape: list[int]) -> None:
    (tensor,) = input_tensors(_raw(datatype, shape), [b""])
    assert tensor.array.shape == tensor.shape == tuple(shape)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "message"),
    [
        ("FP32", [1, 3], b"\0" * 8, "input byte size mismatch for input 'x' for model 'm'. Expected 12, got 8"),
        ("FP16", [2], b"\0" * 5, "input byte size mismatch for input 'x' for model 'm'. Expected 4, got 5"),
        ("BOOL", [2], b"", "input byte size mismatch for input 'x' for model 'm'. Expected 2, got 0"),
        ("FP64", [], b"", "input byte size mismatch for input 'x' for model 'm'. Expected 8, got 0"),
        ("INT8", [0], b"\0", "input byte size mismatch for input 'x' for model 'm'. Expected 0, got 1"),
        ("INT8", [-1], b"\0", "has the shape [-1]: sizes must not be negative"),
        ("INT8", [-1, -1], b"\0", "has the shape [-1, -1]: sizes must not be negative"),
        ("INT8", [0, -1], b"", "has the shape [0, -1]: sizes must not be negative"),
        ("INT8", [2**32, 2**32], b"", "has the shape [4294967296, 4294967296], which is more than memory can hold"),
        ("FP32", [2**62], b"", "which is more than memory can hold"),
        ("FP32", [0, 2**62, 2**62], b"", "which is more than memory can hold"),
        ("BYTES", [2**61], b"", "which is more than memory can hold"),
        ("BYTES", [2**40], b"", "input 'x' expects 1099511627776 string elements, but its 0 bytes hold at most 0"),
        ("BYTES", [0], b"\0\0\0\0", "number of string elements for input 'x', expecting 0: 4 bytes are left"),
        ("INT8", [1] * 33, b"\0", "has 33 dimensions. Expected at most 32"),
        (
            "FLOAT32",
            [1],
            b"\0" * 4,
            "unknown datatype 'FLOAT32' for input 'x' for model 'm'. Expected one of BOOL, UINT8",
        ),
        ("fp32", [1], b"\0" * 4, "unknown datatype 'fp32'"),
        ("", [1], b"\0" * 4, "unknown datatype ''"),
    ],
)
def test_raw_data_that_does_not_fit_its_declaration_is_refused(
    datatype: str, shape: list[int], raw: bytes, message: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        input_tensors(_raw(datatype, shape), [raw])
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            _typed("INT8", [1], int_contents=[128]),
            "value 128 is out of range for input 'x' for model 'm'. INT8 holds -128 to",
        ),
        (_typed("INT8", [1], int_contents=[-129]), "value -129 is out of range"),
        (_typed("INT16", [2], int_contents=[0, 2**15]), "value 32768 is out of range"),
        (_typed("UINT8", [1], uint_contents=[256]), "value 256 is out of range"),
        (_typed("UINT16", [1], uint_contents=[2**16]), "UINT16 holds 0 to 65535"),
        (_typed("FP32", [3], fp32_contents=[1, 2]), "for model 'm'. Expected 3 in fp32_contents, got 2"),
        (_typed("FP32", []), "Expected 1 in fp32_contents, got 0"),
        (_typed("FP32", [1], fp64_contents=[1]), "unexpected fp64_contents for input 'x' for model 'm'. Its datatype"),
        (_typed("UINT8", [1], uint_contents=[1], int_contents=[1]), "unexpected int_contents"),
        (_typed("FP16", [1], fp32_contents=[1]), "FP16 data cannot be sent in an input's contents. Use"),
        (_typed("BF16", [1], fp32_contents=[1]), "BF16 data cannot be sent"),
        (_typed("INT8", [-1], int_contents=[1]), "sizes must not be negative"),
        (_typed("INT8", [2**62, 4], int_contents=[1]), "more than memory can hold"),
        (_raw("FP32", [1]), "unable to find data for input tensor 'x' for model 'm' in request."),
    ],
)
def test_typed_data_that_does_not_fit_its_declaration_is_refused(request_: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        input_tensors(request_, [])
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("inputs", "raw", "message"),
    [
        (1, 2, "unexpected additional input data for model 'm'. Expected 1 raw_input_contents"),
        (0, 1, "Expected 0 raw_input_contents, one for each input that is not in shared memory, got 1"),
        (3, 2, "unable to find data for input tensor 'x' for model 'm' in request. Expected 3 raw"),
    ],
)
def test_each_input_needs_its_own_raw_contents(inputs: int, raw: int, message: str) -> None:
    request = _request(*[{"datatype": "INT8", "shape": [1]}] * inputs)
    with pytest.raises(InvalidArgument) as raised:
        input_tensors(request, [b"\0"] * raw)
    assert message in raised.value.message


def test_typed_and_raw_contents_do_not_mix() -> None:
    request = _request(
        {"name": "a", "datatype": "INT8", "shape": [1]},
        {"name": "b", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [1]}},
    )
    with pytest.raises(InvalidArgument) as raised:
        input_tensors(request, [b"\0"])
    assert raised.value.message == (
        "contents field must not be specified when using raw_input_contents for 'b' for model 'm'"
    )
