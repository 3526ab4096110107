"""A small request that a model accepts as it stands: for the documentation, the start-up summary and the curious."""

from collections.abc import Mapping, Sequence
from typing import Any

from ortolan.inference.datatypes import BYTES, Datatype
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec

_MOST_VALUES = 4096
_UNKNOWN_SIZE = 1
# A whole sequence of one request.
_A_SEQUENCE: Mapping[str, object] = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}


def example_request(signature: ModelSignature) -> dict[str, object]:
    """A JSON inference request of one row with neutral values; sizes that may vary are 1."""
    inputs = [_example_input(spec, signature.batching) for spec in _shown(signature)]
    return {"inputs": inputs, "parameters": dict(_A_SEQUENCE)} if signature.sequences else {"inputs": inputs}


def example_generate(signature: ModelSignature) -> dict[str, object]:
    """The same for the generate extension: flat values by input."""
    flat = {
        spec.name: [_neutral_value(spec.datatype)] * _count(spec.wire_shape(signature.batching))
        for spec in _shown(signature)
    }
    values = {name: each[0] if len(each) == 1 else each for name, each in flat.items()}
    return {**values, **_A_SEQUENCE} if signature.sequences else values


def example_predict(signature: ModelSignature) -> dict[str, object]:
    """The same for KServe's v1: one instance of a batching model, else the tensors."""
    values = {
        spec.name: _nested(_neutral_value(spec.datatype), _example_shape(spec.wire_shape(signature.batching)))
        for spec in _shown(signature)
    }
    if not signature.batching:
        return {"inputs": values}
    row = {name: batch[0] for name, batch in values.items()}
    return {"instances": [next(iter(row.values())) if len(row) == 1 else row]}


def value_count(signature: ModelSignature) -> int:
    """How many values the example has."""
    return sum(_count(spec.wire_shape(signature.batching)) for spec in _shown(signature))


def is_small(signature: ModelSignature) -> bool:
    """Whether the example has few enough values to be shown and pasted."""
    return value_count(signature) <= _MOST_VALUES


def _shown(signature: ModelSignature) -> list[TensorSpec]:
    return [spec for spec in signature.inputs if not spec.optional]


def _example_input(spec: TensorSpec, batching: bool) -> dict[str, object]:
    shape = _example_shape(spec.wire_shape(batching))
    value = _neutral_value(spec.datatype)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype.name, "data": [value] * _count(shape)}


def _example_shape(shape: Sequence[int]) -> list[int]:
    return [_UNKNOWN_SIZE if size == -1 else size for size in shape]


def _nested(value: Any, shape: Sequence[int]) -> Any:
    return [_nested(value, shape[1:]) for _ in range(shape[0])] if shape else value


def _neutral_value(datatype: Datatype) -> object:
    if datatype is BYTES:
        return "hello"
    if datatype.name == "BOOL":
        return False
    return 0.0 if datatype.is_float else 0


def _count(shape: tuple[int, ...] | list[int]) -> int:
    count = 1
    for size in shape:
        count *= _UNKNOWN_SIZE if size == -1 else size
    return count
