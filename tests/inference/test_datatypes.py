"""The table of datatypes, and BF16, which numpy does not have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.inference import datatypes
from ortolan.inference.datatypes import BY_CONFIG_NAME, BY_CONFIG_NUMBER, BY_NAME, BY_ONNX_TYPE, DATATYPES, Datatype


def test_every_row_is_found_under_each_of_its_names():
    for datatype in DATATYPES:
        assert BY_NAME[datatype.name] is datatype
        assert BY_CONFIG_NAME[datatype.config_name] is datatype
        assert BY_CONFIG_NUMBER[datatype.config_number] is datatype
        assert BY_ONNX_TYPE[datatype.onnx_type] is datatype
    assert len(BY_NAME) == len(BY_CONFIG_NAME) == len(BY_CONFIG_NUMBER) == len(BY_ONNX_TYPE) == len(DATATYPES) == 14


@pytest.mark.parametrize(
    ("name", "numpy", "size", "element", "onnx", "config", "number"),
    [
        ("BOOL", "bool", 1, 9, "tensor(bool)", "TYPE_BOOL", 1),
        ("UINT8", "uint8", 1, 2, "tensor(uint8)", "TYPE_UINT8", 2),
        ("UINT16", "uint16", 2, 4, "tensor(uint16)", "TYPE_UINT16", 3),
        ("UINT32", "uint32", 4, 12, "tensor(uint32)", "TYPE_UINT32", 4),
        ("UINT64", "uint64", 8, 13, "tensor(uint64)", "TYPE_UINT64", 5),
        ("INT8", "int8", 1, 3, "tensor(int8)", "TYPE_INT8", 6),
        ("INT16", "int16", 2, 5, "tensor(int16)", "TYPE_INT16", 7),
        ("INT32", "int32", 4, 6, "tensor(int32)", "TYPE_INT32", 8),
        ("INT64", "int64", 8, 7, "tensor(int64)", "TYPE_INT64", 9),
        ("FP16", "float16", 2, 10, "tensor(float16)", "TYPE_FP16", 10),
        ("FP32", "float32", 4, 1, "tensor(float)", "TYPE_FP32", 11),
        ("FP64", "float64", 8, 11, "tensor(double)", "TYPE_FP64", 12),
        ("BYTES", "object", 0, 8, "tensor(string)", "TYPE_STRING", 13),
        ("BF16", "uint16", 2, 16, "tensor(bfloat16)", "TYPE_BF16", 14),
    ],
)
def test_the_rows_are_those_of_onnx_and_of_tritons_configuration(name, numpy, size, element, onnx, config, number):
    assert BY_NAME[name] == Datatype(name, np.dtype(numpy).newbyteorder("<"), size, element, onnx, config, number)
    assert size == (0 if name == "BYTES" else np.dtype(numpy).itemsize)


def test_each_datatype_is_an_integer_or_a_float_or_neither():
    assert {datatype.name for datatype in DATATYPES if datatype.is_float} == {"FP16", "BF16", "FP32", "FP64"}
    integers = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
    assert {datatype.name for datatype in DATATYPES if datatype.is_integer} == integers


def test_every_bf16_value_is_itself_after_a_round_trip():
    bits = np.arange(2**16, dtype=np.uint16)
    values = datatypes.float32_from_bf16(bits)
    back = datatypes.bf16_from_float32(values)
    nan = np.isnan(values)
    assert np.array_equal(back[~nan], bits[~nan])
    assert np.isnan(datatypes.float32_from_bf16(back[nan])).all()


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (0x3F808000, 0x3F80),  # a tie goes to the even neighbour below
        (0x3F818000, 0x3F82),  # and to the even neighbour above
        (0x3F808001, 0x3F81),
        (0x3F807FFF, 0x3F80),
        (0x7F7FFFFF, 0x7F80),  # the largest FP32 is beyond the largest BF16
        (0x80000000, 0x8000),  # minus zero keeps its sign
        (0x00000001, 0x0000),
        (0x7F800001, 0x7FC0),  # a NaN whose mark is cut off is not to become an infinity
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_bf16_rounds_to_nearest_even(value, bits):
    assert datatypes.bf16_from_float32(np.array([value], np.uint32).view(np.float32)).tolist() == [bits]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127))
def test_bf16_is_never_further_off_than_half_a_unit(value):
    near = datatypes.float32_from_bf16(datatypes.bf16_from_float32(np.array([value], np.float32)))[0]
    assert abs(float(near) - value) <= max(abs(value) * 2**-8, 2.0**-134)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_bf16_keeps_the_shape_and_takes_any_layout(shape):
    values = np.zeros(shape, np.float32, order="F")
    bits = datatypes.bf16_from_float32(values)
    assert (bits.shape, bits.dtype) == (shape, np.uint16)
    back = datatypes.float32_from_bf16(bits)
    assert (back.shape, back.dtype) == (shape, np.float32)
    transposed = datatypes.float32_from_bf16(np.arange(0x3F80, 0x3F86, dtype=np.uint16).reshape(2, 3).T)
    assert transposed[0].tolist() == [1.0, 1.0234375]
