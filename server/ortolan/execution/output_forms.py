"""How each kind of ONNX value that a graph may put out becomes one tensor.

    tensor(T)                      the tensor
    seq(tensor(T))                 the tensors stacked: their number comes first
    map(K, tensor(T))              one row, its columns in ascending order of the keys
    seq(map(K, tensor(T)))         such a row for each map
    optional(…)                    what it holds, or an empty tensor

``docs/outputs.md`` shows each with an example.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.execution.text_elements import bytes_of
from ortolan.inference.datatypes import BY_ONNX_TYPE, BYTES, Array, Datatype
from ortolan.repository.graph_signature import GraphTensor

Shape = tuple[int, ...]

_OPTIONAL = re.compile(r"optional\((?P<inner>.*)\)")
_SEQUENCE = re.compile(r"seq\((?P<inner>.*)\)")
_MAP = re.compile(r"map\(\w+,(?P<value>tensor\(\w+\))\)")


class OutputForm:
    """An output that is a tensor by itself, and the base of the other forms."""

    by_itself = True
    """Whether the runtime gives it as one tensor, which can also be an OrtValue."""

    def __init__(self, name: str, datatype: Datatype, shape: Shape | None) -> None:
        """``shape`` is that of the tensor, or of each tensor inside; None where its rank is open."""
        self.datatype = datatype
        self.tensor = GraphTensor(name, datatype, shape)

    @property
    def is_array(self) -> bool:
        """Whether what the runtime gives is the array already."""
        return type(self) is OutputForm and self.datatype is not BYTES and self.tensor.shape is not None

    def array(self, value: Any) -> Array:
        """What the runtime gave, as ``inference.Tensor`` has it. ValueError or KeyError when it is no tensor."""
        if self.datatype is BYTES:
            array = bytes_of(value)
        else:
            array = value if isinstance(value, np.ndarray) else np.asarray(value, self.datatype.numpy)
        # An output of open rank is declared with one dimension at least.
        return array.reshape(1) if self.tensor.shape is None and not array.ndim else array


class _Stacked(OutputForm):
    """A sequence of tensors."""

    by_itself = False

    def __init__(self, name: str, datatype: Datatype, shape: Shape | None) -> None:
        super().__init__(name, datatype, shape)
        self.tensor = GraphTensor(name, datatype, None if shape is None else (-1, *shape), batchable=False)

    def array(self, value: Any) -> Array:
        if not value:
            return _nothing(self.tensor)
        return super().array(np.stack(value))


class _Rows(OutputForm):
    """A sequence of maps."""

    by_itself = False

    def __init__(self, name: str, datatype: Datatype) -> None:
        super().__init__(name, datatype, (-1, -1))

    def array(self, value: Any) -> Array:
        rows: Sequence[Mapping[Any, Any]] = value
        keys = sorted(rows[0]) if rows else []
        if any(len(row) != len(keys) for row in rows):
            raise KeyError
        table = np.array([[row[key] for key in keys] for row in rows], self.datatype.numpy)
        return super().array(table.reshape(len(rows), len(keys)))


class _Row(_Rows):
    """A map."""

    def __init__(self, name: str, datatype: Datatype) -> None:
        super().__init__(name, datatype)
        self.tensor = GraphTensor(name, datatype, (1, -1), batchable=False)

    def array(self, value: Any) -> Array:
        return super().array([value])


class _Optional(OutputForm):
    """A value that may be absent: then its tensor is empty, of the same rank, and of size 0 wherever it is open."""

    by_itself = False

    def __init__(self, inner: OutputForm) -> None:
        tensor = inner.tensor
        super().__init__(tensor.name, tensor.datatype, tensor.shape)
        self._inner = inner
        self.tensor = GraphTensor(tensor.name, tensor.datatype, _that_can_be_empty(tensor.shape), batchable=False)

    def array(self, value: Any) -> Array:
        if value is None:
            return _nothing(self.tensor)
        array = self._inner.array(value)
        return array if array.ndim else array.reshape(1)


def output_form(model_name: str, name: str, onnx_type: str, shape: Shape | None) -> OutputForm:
    """The form of an output of type ``onnx_type``, as the runtime prints it.

    ``shape`` is that of the tensor or of each tensor inside; None where its rank is open. Raises InvalidArgument for a
    type that has none.
    """
    if optional := _OPTIONAL.fullmatch(onnx_type):
        return _Optional(output_form(model_name, name, optional["inner"], shape))
    sequence = _SEQUENCE.fullmatch(onnx_type)
    inner = sequence["inner"] if sequence else onnx_type
    maps = _MAP.fullmatch(inner)
    datatype = datatype_of(model_name, name, onnx_type, maps["value"] if maps else inner)
    if maps:
        return _Rows(name, datatype) if sequence else _Row(name, datatype)
    return _Stacked(name, datatype, shape) if sequence else OutputForm(name, datatype, shape)


def datatype_of(model_name: str, tensor_name: str, onnx_type: str, element_type: str) -> Datatype:
    """The datatype of ``element_type``, such as ``tensor(float)``, which is inside ``onnx_type``."""
    datatype = BY_ONNX_TYPE.get(element_type)
    if datatype is None:
        raise InvalidArgument(
            f"tensor '{tensor_name}' of model '{model_name}' has type {onnx_type}, which cannot be served; "
            f"types that can are {', '.join(BY_ONNX_TYPE)}, and as outputs also sequences, maps and optionals of them. "
            "Export the model with one of these."
        )
    return datatype


def _that_can_be_empty(shape: Shape | None) -> Shape | None:
    if shape is None or -1 in shape:
        return shape
    return (-1, *shape[1:])


def _nothing(tensor: GraphTensor) -> Array:
    shape = (-1,) if tensor.shape is None else tensor.shape
    return np.empty([max(size, 0) for size in shape], tensor.datatype.numpy)
