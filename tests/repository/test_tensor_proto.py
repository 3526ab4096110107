"""Serialized TensorProtos: what the onnx package writes is read to the same elements; everything else is refused."""

import contextlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ortolan.inference.datatypes import BF16, BYTES, DATATYPES, Datatype
from ortolan.repository.tensor_proto import parse_tensor

VALUES = np.array([[0, 1, 1], [1, 0, 100]])


def elements(datatype: Datatype) -> np.ndarray:
    if datatype is BYTES:
        return VALUES.astype(str).astype(object)
    return VALUES.astype(ml_dtypes.bfloat16 if datatype is BF16 else datatype.numpy)


def expected(datatype: Datatype) -> np.ndarray:
    values = elements(datatype)
    if datatype is BYTES:
        return np.array([[text.encode() for text in row] for row in values], object)
    return values.view(np.uint16) if datatype is BF16 else values


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.name)
@pytest.mark.parametrize("raw", [True, False])
def test_each_datatype_is_read_from_raw_and_from_typed_data(datatype: Datatype, raw: bool) -> None:
    values = elements(datatype)
    if raw:
        proto = numpy_helper.from_array(values, "t")
    else:
        flat = [text.encode() for text in values.ravel()] if datatype is BYTES else values.ravel()
        proto = helper.make_tensor("t", datatype.onnx_element_type, values.shape, flat)
    tensor = parse_tensor(proto.SerializeToString())
    assert (tensor.name, tensor.datatype) == ("t", datatype)
    assert tensor.array.dtype == datatype.numpy
    assert np.array_equal(tensor.array, expected(datatype))


@given(st.lists(st.floats(width=32), max_size=9), st.booleans())
def test_floats_come_back_bit_for_bit(values: list[float], raw: bool) -> None:
    array = np.array(values, np.float32)
    proto = numpy_helper.from_array(array) if raw else helper.make_tensor("", TensorProto.FLOAT, array.shape, array)
    assert parse_tensor(proto.SerializeToString()).array.tobytes() == array.tobytes()


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((0,), 0), ((2, 0, 3), 0)])
def test_scalars_and_empty_tensors_are_read(shape: tuple[int, ...], count: int) -> None:
    assert parse_tensor(numpy_helper.from_array(np.zeros(shape, np.int64)).SerializeToString()).array.shape == shape


def proto_of(**fields: Any) -> TensorProto:
    return TensorProto(**{"data_type": TensorProto.FLOAT, "dims": [2], "raw_data": bytes(8), **fields})


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (proto_of(dims=[3]), r"has 2 elements, but its shape \[3\] has 3"),
        (proto_of(dims=[-1]), "negative size"),
        (proto_of(dims=[1 << 40, 1 << 40]), "has 2 elements, but"),
        (proto_of(raw_data=bytes(7)), "raw_data of 7 bytes is no number of FP32 elements"),
        (proto_of(data_type=TensorProto.COMPLEX64), "data_type is 14, which is no tensor that requests can carry"),
        (proto_of(data_type=TensorProto.FLOAT8E4M3FN), "data_type is 17"),
        (proto_of(data_type=0), "no data_type, so it is no serialized TensorProto"),
        (proto_of(data_location=TensorProto.EXTERNAL), "its elements are external data"),
        (TensorProto(data_type=TensorProto.INT8, dims=[1], int32_data=[300]), "out of its datatype's range"),
        (TensorProto(data_type=TensorProto.UINT8, dims=[1], int32_data=[-1]), "out of its datatype's range"),
        (proto_of(data_type=TensorProto.BOOL, dims=[1], raw_data=b"\2"), "neither 0 nor 1"),
        (proto_of(data_type=TensorProto.STRING), "has 0 elements"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_told(proto: TensorProto, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_tensor(proto.SerializeToString())


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(content: bytes) -> None:
    for message in (content, proto_of().SerializeToString() + content):
        with contextlib.suppress(ValueError):
            parse_tensor(message)
