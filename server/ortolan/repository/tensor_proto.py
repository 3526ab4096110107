"""ONNX's serialized ``TensorProto`` → a tensor, without the onnx package.

The fields and how each datatype is stored in them are those of ONNX's ``onnx.proto``. The message class comes from a
descriptor pool of our own, so that it never meets the onnx package's.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ortolan.inference.datatypes import (
    BF16,
    BOOL,
    BYTES,
    DATATYPES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Array,
    Datatype,
)

_F = FieldDescriptorProto
# name, number, type, whether it is repeated
_FIELDS = (
    ("dims", 1, _F.TYPE_INT64, True),
    ("data_type", 2, _F.TYPE_INT32, False),
    ("float_data", 4, _F.TYPE_FLOAT, True),
    ("int32_data", 5, _F.TYPE_INT32, True),
    ("string_data", 6, _F.TYPE_BYTES, True),
    ("int64_data", 7, _F.TYPE_INT64, True),
    ("name", 8, _F.TYPE_BYTES, False),
    ("raw_data", 9, _F.TYPE_BYTES, False),
    ("double_data", 10, _F.TYPE_DOUBLE, True),
    ("uint64_data", 11, _F.TYPE_UINT64, True),
    ("external_data", 13, _F.TYPE_BYTES, True),
    ("data_location", 14, _F.TYPE_INT32, False),
)
_TYPED_FIELDS = {
    FP32: "float_data",
    FP64: "double_data",
    INT64: "int64_data",
    UINT32: "uint64_data",
    UINT64: "uint64_data",
    BYTES: "string_data",
    **dict.fromkeys((BOOL, INT8, INT16, INT32, UINT8, UINT16, FP16, BF16), "int32_data"),
}
# Their elements stand in 32 bits each as the bits that they are.
_AS_BITS = (FP16, BF16)
_BY_ELEMENT_TYPE = {datatype.onnx_element_type: datatype for datatype in DATATYPES}


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """A tensor out of a file; ``name`` is "" where it has none. BF16 as its bits, BYTES as objects."""

    name: str
    datatype: Datatype
    array: Array


def parse_tensor(content: bytes) -> NamedTensor:
    """The tensor that ``content`` is. Raises ValueError saying what is wrong with it."""
    try:
        message = _TENSOR.FromString(content)
    except (DecodeError, RecursionError) as error:
        raise ValueError("it is no serialized TensorProto") from error
    datatype = _BY_ELEMENT_TYPE.get(message.data_type)
    if datatype is None:
        raise ValueError(
            f"its data_type is {message.data_type}, which is no tensor that requests can carry"
            if message.data_type
            else "it has no data_type, so it is no serialized TensorProto"
        )
    if message.data_location or message.external_data:
        raise ValueError("its elements are external data; save it with its elements inside")
    shape = tuple(message.dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape {list(shape)} has a negative size")
    flat = _elements(message, datatype)
    if flat.size != math.prod(shape):
        raise ValueError(f"it has {flat.size} elements, but its shape {list(shape)} has {math.prod(shape)}")
    return NamedTensor(message.name.decode("utf-8", "replace"), datatype, flat.reshape(shape))


def _elements(message: Any, datatype: Datatype) -> Array:
    if message.HasField("raw_data") and datatype is not BYTES:
        if len(message.raw_data) % datatype.size_bytes:
            raise ValueError(f"its raw_data of {len(message.raw_data)} bytes is no number of {datatype.name} elements")
        return _in_range(np.frombuffer(message.raw_data, datatype.numpy), datatype)
    values = getattr(message, _TYPED_FIELDS[datatype])
    if datatype is BYTES:
        texts = np.empty(len(values), dtype=object)
        texts[:] = list(values)
        return texts
    if datatype in _AS_BITS:
        bits = np.array(values, np.int64)
        return _exactly(bits, np.dtype("<u2")).view(datatype.numpy)
    # Python's numbers, because numpy's narrow ones would wrap around in silence.
    wide = np.float64 if datatype.is_float else (np.uint64 if datatype is UINT64 else np.int64)
    array = np.array(values, wide)
    return array.astype(datatype.numpy) if datatype.is_float else _exactly(array, datatype.numpy)


def _in_range(array: Array, datatype: Datatype) -> Array:
    if datatype is BOOL and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("it is of booleans, but has bytes that are neither 0 nor 1")
    return array


def _exactly(values: Array, dtype: np.dtype[Any]) -> Array:
    narrow = values.astype(dtype)
    if not np.array_equal(narrow.astype(values.dtype), values):
        raise ValueError("it has numbers that are out of its datatype's range")
    return narrow


def _tensor_class() -> Any:
    file = FileDescriptorProto(name="tensor.proto", package="tensor_file", syntax="proto2")
    message = file.message_type.add(name="TensorProto")
    for name, number, kind, repeated in _FIELDS:
        label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("tensor_file.TensorProto"))


_TENSOR = _tensor_class()
