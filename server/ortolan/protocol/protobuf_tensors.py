"""A gRPC request's input tensors, from raw_input_contents or from the fields of InferTensorContents. Pure.

The rules are those of Triton's ``ModelInfer``; where it ignores surplus or ambiguous data, we refuse it.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference.bytes_elements import decode_elements
from ortolan.inference.datatypes import BY_NAME, Array, Datatype
from ortolan.inference.request import Tensor

Raw = bytes | memoryview

MAX_RANK = 32
"""numpy 1's limit to an array's dimensions, and more than any model has."""
MAX_TENSOR_BYTES = 2**63 - 1

# The field of InferTensorContents for each datatype, and that field's own type. FP16 and BF16 have none.
_CONTENTS = {
    "BOOL": ("bool_contents", np.dtype("?")),
    "INT8": ("int_contents", np.dtype("<i4")),
    "INT16": ("int_contents", np.dtype("<i4")),
    "INT32": ("int_contents", np.dtype("<i4")),
    "INT64": ("int64_contents", np.dtype("<i8")),
    "UINT8": ("uint_contents", np.dtype("<u4")),
    "UINT16": ("uint_contents", np.dtype("<u4")),
    "UINT32": ("uint_contents", np.dtype("<u4")),
    "UINT64": ("uint64_contents", np.dtype("<u8")),
    "FP32": ("fp32_contents", np.dtype("<f4")),
    "FP64": ("fp64_contents", np.dtype("<f8")),
    "BYTES": ("bytes_contents", np.dtype("O")),
}
_KNOWN_DATATYPES = ", ".join(BY_NAME)


def input_tensors(message: Any, raw_contents: Sequence[Raw]) -> tuple[Tensor, ...]:
    """The inputs of a ModelInferRequest whose raw contents are given apart from it; numeric ones are views of these.

    Raises InvalidArgument, naming the input, where data and declaration do not fit.
    """
    model_name = message.model_name
    for tensor in message.inputs:
        refuse_shared_memory("input", tensor)
    if not raw_contents:
        return tuple([_typed_tensor(tensor, model_name) for tensor in message.inputs])
    _check_raw_count(message, len(raw_contents))
    return tuple(
        [_raw_tensor(tensor, raw, model_name) for tensor, raw in zip(message.inputs, raw_contents, strict=True)]
    )


def refuse_shared_memory(role: str, tensor: Any) -> None:
    """Raises InvalidArgument when ``tensor``, an input or requested output as ``role`` says, is in shared memory."""
    for name in tensor.parameters:
        if name.startswith("shared_memory_"):
            raise InvalidArgument(
                f"{role} '{tensor.name}' asks for '{name}', but system shared memory is not supported by this server "
                "yet. Send tensors in the message"
            )


def _check_raw_count(message: Any, count: int) -> None:
    inputs, model_name = message.inputs, message.model_name
    for tensor in inputs:
        if tensor.HasField("contents"):
            raise InvalidArgument(
                "contents field must not be specified when using raw_input_contents "
                f"for '{tensor.name}' for model '{model_name}'"
            )
    if count < len(inputs):
        raise InvalidArgument(
            f"unable to find data for input tensor '{inputs[count].name}' for model '{model_name}' in request. "
            f"Expected {len(inputs)} raw_input_contents, one for each input, got {count}"
        )
    if count > len(inputs):
        raise InvalidArgument(
            f"unexpected additional input data for model '{model_name}'. "
            f"Expected {len(inputs)} raw_input_contents, one for each input, got {count}"
        )


def _raw_tensor(tensor: Any, raw: Raw, model_name: str) -> Tensor:
    datatype, shape, count = _declared(tensor, model_name)
    if datatype.size_bytes == 0:
        return Tensor(tensor.name, datatype, shape, decode_elements(raw, count, tensor.name).reshape(shape))
    if len(raw) != count * datatype.size_bytes:
        raise InvalidArgument(
            f"input byte size mismatch for input '{tensor.name}' for model '{model_name}'. "
            f"Expected {count * datatype.size_bytes}, got {len(raw)}"
        )
    if datatype.name == "BOOL":
        # A numpy bool that holds neither 0 nor 1 is undefined, and clients decide these bytes.
        return Tensor(tensor.name, datatype, shape, (np.frombuffer(raw, np.uint8) != 0).reshape(shape))
    return Tensor(tensor.name, datatype, shape, np.frombuffer(raw, datatype.numpy).reshape(shape))


def _typed_tensor(tensor: Any, model_name: str) -> Tensor:
    if not tensor.HasField("contents"):
        raise InvalidArgument(
            f"unable to find data for input tensor '{tensor.name}' for model '{model_name}' in request. "
            "Expected it in raw_input_contents or in the input's contents"
        )
    datatype, shape, count = _declared(tensor, model_name)
    if datatype.name not in _CONTENTS:
        raise InvalidArgument(
            f"{datatype.name} data cannot be sent in an input's contents. "
            f"Use raw_input_contents for input '{tensor.name}' for model '{model_name}'"
        )
    field, field_type = _CONTENTS[datatype.name]
    _check_fields(tensor, field, model_name)
    values = getattr(tensor.contents, field)
    if len(values) != count:
        raise InvalidArgument(
            f"unexpected number of elements for input '{tensor.name}' for model '{model_name}'. "
            f"Expected {count} in {field}, got {len(values)}"
        )
    array = np.fromiter(values, field_type, count)
    if field_type != datatype.numpy:
        array = _narrowed(array, datatype, tensor.name, model_name)
    return Tensor(tensor.name, datatype, shape, array.reshape(shape))


def _check_fields(tensor: Any, expected: str, model_name: str) -> None:
    for descriptor, _ in tensor.contents.ListFields():
        if descriptor.name != expected:
            raise InvalidArgument(
                f"unexpected {descriptor.name} for input '{tensor.name}' for model '{model_name}'. "
                f"Its datatype is {tensor.datatype}, so its contents belong in {expected}"
            )


def _narrowed(array: Any, datatype: Datatype, name: str, model_name: str) -> Array:
    """``array`` in the datatype's own, smaller type; refused where a value does not fit."""
    limits = np.iinfo(datatype.numpy.str)
    outside = array[(array < limits.min) | (array > limits.max)]
    if outside.size:
        raise InvalidArgument(
            f"value {outside[0]} is out of range for input '{name}' for model '{model_name}'. "
            f"{datatype.name} holds {limits.min} to {limits.max}"
        )
    narrowed: Array = array.astype(datatype.numpy)
    return narrowed


def _declared(tensor: Any, model_name: str) -> tuple[Datatype, tuple[int, ...], int]:
    """The datatype and shape that an input declares, and the number of elements that the shape has."""
    datatype = BY_NAME.get(tensor.datatype)
    if datatype is None:
        raise InvalidArgument(
            f"unknown datatype '{tensor.datatype}' for input '{tensor.name}' for model '{model_name}'. "
            f"Expected one of {_KNOWN_DATATYPES}"
        )
    shape = tuple(tensor.shape)
    if len(shape) > MAX_RANK:
        raise InvalidArgument(
            f"input '{tensor.name}' for model '{model_name}' has {len(shape)} dimensions. Expected at most {MAX_RANK}"
        )
    count = prod(shape)
    # The common shape passes on the first comparison; only odd ones are looked at again.
    if shape and (min(shape) <= 0 or count * datatype.numpy.itemsize > MAX_TENSOR_BYTES):
        _check_odd_shape(shape, datatype, tensor.name, model_name)
    return datatype, shape, count


def _check_odd_shape(shape: tuple[int, ...], datatype: Datatype, name: str, model_name: str) -> None:
    if min(shape) < 0:
        raise InvalidArgument(
            f"input '{name}' for model '{model_name}' has the shape {list(shape)}: sizes must not be negative"
        )
    # numpy refuses an array whose other sizes overflow, even where one of them is 0.
    if prod([size for size in shape if size]) * datatype.numpy.itemsize > MAX_TENSOR_BYTES:
        raise InvalidArgument(
            f"input '{name}' for model '{model_name}' has the shape {list(shape)}, which is more than memory can hold"
        )
