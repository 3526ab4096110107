"""What the description of a request said, to be applied to another request that has the same, with other elements."""

from dataclasses import dataclass, replace

import numpy as np

from ortolan.inference import datatypes
from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.request import InferenceRequest, Tensor
from ortolan.protocol.serialized import Raw


@dataclass(slots=True)
class RememberedInputs:
    """A request whose inputs are all views of its bytes: where, of which datatype and shape."""

    _request: InferenceRequest
    _inputs: tuple[tuple[str, Datatype, tuple[int, ...], int], ...]

    @property
    def begins(self) -> tuple[int, ...]:
        """Where the elements of each input begin."""
        return tuple(offset for *_, offset in self._inputs)

    def arrays(self, data: Raw, start: int = 0) -> dict[str, Array]:
        """The inputs with the elements in ``data``, where what was remembered began at ``start``."""
        return {
            name: np.ndarray(shape, datatype.numpy, data, start + offset)
            for name, datatype, shape, offset in self._inputs
        }

    def of(self, data: Raw) -> InferenceRequest:
        """The same request with the elements in ``data``, which is as long as the one that was remembered."""
        inputs = []
        for name, datatype, shape, offset in self._inputs:
            array: Array = np.ndarray(shape, datatype.numpy, data, offset)
            inputs.append(Tensor(name, datatype, shape, array))
        said = self._request
        return InferenceRequest(
            said.model_name,
            said.model_version,
            said.id,
            tuple(inputs),
            said.outputs,
            said.parameters,
            said.binary_by_default,
        )


def remembered(request: InferenceRequest, data: Raw) -> RememberedInputs | None:
    """``request``, which ``data`` said, to be applied to others; None unless its inputs are views of ``data``."""
    places: list[tuple[str, Datatype, tuple[int, ...], int]] = []
    begin = _address(np.frombuffer(data, np.uint8))
    for tensor in request.inputs:
        if tensor.shared_memory is not None or tensor.datatype in (datatypes.BYTES, datatypes.BOOL):
            return None
        offset = _address(tensor.array) - begin
        if not tensor.array.nbytes or not 0 <= offset <= len(data) - tensor.array.nbytes:
            return None
        places.append((tensor.name, tensor.datatype, tensor.shape, offset))
    return RememberedInputs(replace(request, inputs=()), tuple(places)) if places else None


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
