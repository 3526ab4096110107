"""A gRPC request's input tensors: from raw_input_contents, from InferTensorContents, or in shared memory. Pure.

The rules are those of Triton's ``ModelInfer``; where it ignores surplus or ambiguous data, we refuse it.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BY_NAME, BYTES, Array, Datatype
from ortolan.inference.request import MAX_TENSOR_PARAMETERS, UNREAD, Tensor
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.inference.tensor_bytes import array_from_bytes
from ortolan.protocol.request_parameters import too_many_parameters
from ortolan.protocol.serialized import Raw
from ortolan.protocol.shared_memory_parameters import SHARED_MEMORY_KEYS, shared_memory_slice

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

    The raw contents are those of the inputs that are not in shared memory; the others are still unread. Raises
    InvalidArgument, naming the input, where data and declaration do not fit.
    """
    places = [place_in_shared_memory("input", tensor) if tensor.parameters else None for tensor in message.inputs]
    if any(places):
        return _partly_shared_tensors(message, raw_contents, places)
    return _sent_tensors(message.inputs, raw_contents, message.model_name)


def place_in_shared_memory(role: str, tensor: Any) -> SharedMemorySlice | None:
    """Where ``tensor``, an input or a requested output as ``role`` says, is by its parameters; None for nowhere.

    Raises as ``shared_memory_slice`` does, and InvalidArgument for more parameters than a tensor may have.
    """
    parameters = tensor.parameters
    if len(parameters) > MAX_TENSOR_PARAMETERS:
        raise too_many_parameters(f"{role} '{tensor.name}'", len(parameters), MAX_TENSOR_PARAMETERS)
    values = {}
    for name in SHARED_MEMORY_KEYS:
        # Reading a map's missing key would add it.
        if name in parameters:
            choice = parameters[name].WhichOneof("parameter_choice")
            values[name] = getattr(parameters[name], choice) if choice else None
    return shared_memory_slice(values, f"{role} '{tensor.name}'")


def _partly_shared_tensors(
    message: Any, raw_contents: Sequence[Raw], places: Sequence[SharedMemorySlice | None]
) -> tuple[Tensor, ...]:
    model_name = message.model_name
    sent = [tensor for tensor, place in zip(message.inputs, places, strict=True) if place is None]
    others = iter(_sent_tensors(sent, raw_contents, model_name))
    return tuple(
        [
            _shared_tensor(tensor, place, model_name) if place is not None else next(others)
            for tensor, place in zip(message.inputs, places, strict=True)
        ]
    )


def _shared_tensor(tensor: Any, place: SharedMemorySlice, model_name: str) -> Tensor:
    if tensor.HasField("contents"):
        raise InvalidArgument(
            f"contents field must not be specified when using shared memory for '{tensor.name}' "
            f"for model '{model_name}'"
        )
    datatype, shape, _ = _declared(tensor, model_name)
    return Tensor(tensor.name, datatype, shape, UNREAD, place)


def _sent_tensors(inputs: Sequence[Any], raw_contents: Sequence[Raw], model_name: str) -> tuple[Tensor, ...]:
    if not raw_contents:
        return tuple([_typed_tensor(tensor, model_name) for tensor in inputs])
    _check_raw_count(inputs, len(raw_contents), model_name)
    return tuple([_raw_tensor(tensor, raw, model_name) for tensor, raw in zip(inputs, raw_contents, strict=True)])


def _check_raw_count(inputs: Sequence[Any], count: int, model_name: str) -> None:
    for tensor in inputs:
        if tensor.HasField("contents"):
            raise InvalidArgument(
                "contents field must not be specified when using raw_input_contents "
                f"for '{tensor.name}' for model '{model_name}'"
            )
    if count < len(inputs):
        raise InvalidArgument(
            f"unable to find data for input tensor '{inputs[count].name}' for model '{model_name}' in request. "
            f"Expected {len(inputs)} raw_input_contents, one for each input that is not in shared memory, got {count}"
        )
    if count > len(inputs):
        raise InvalidArgument(
            f"unexpected additional input data for model '{model_name}'. "
            f"Expected {len(inputs)} raw_input_contents, one for each input that is not in shared memory, got {count}"
        )


def _raw_tensor(tensor: Any, raw: Raw, model_name: str) -> Tensor:
    datatype, shape, count = _declared(tensor, model_name)
    if len(raw) != count * datatype.size_bytes and datatype is not BYTES:
        raise InvalidArgument(
            f"input byte size mismatch for input '{tensor.name}' for model '{model_name}'. "
            f"Expected {count * datatype.size_bytes}, got {len(raw)}"
        )
    return Tensor(tensor.name, datatype, shape, array_from_bytes(raw, 0, len(raw), datatype, shape, count, tensor.name))


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
    rank = len(tensor.shape)
    if rank > MAX_RANK:
        raise InvalidArgument(
            f"input '{tensor.name}' for model '{model_name}' has {rank} dimensions. Expected at most {MAX_RANK}"
        )
    shape = tuple(tensor.shape)
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
