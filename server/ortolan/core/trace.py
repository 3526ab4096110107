"""The trace of one request: what happened to it and when, and how that looks in Triton's trace files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import orjson

from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import BF16, BOOL, BYTES, float32_from_bf16
from ortolan.inference.request import Tensor

# What a trace without tensors takes in memory, roughly.
_SIZE_BYTES = 2000


@dataclass(slots=True)
class Trace:
    """A request that is being traced. Times are nanoseconds on the monotonic clock, as Triton's are."""

    id: int
    model_name: str
    model_version: int
    request_id: str
    parameters: Mapping[str, str]
    with_times: bool
    with_tensors: bool
    times: list[tuple[str, int]] = field(default_factory=list)
    """Name and time, in the order in which they came."""
    tensors: list[tuple[str, Tensor]] = field(default_factory=list)
    """Each with what it was then."""

    def at(self, name: str, time_ns: int) -> None:
        if self.with_times:
            self.times.append((name, time_ns))

    def executed(self, queue_ns: int, times: ExecutionTimes) -> None:
        """The model ran: ``queue_ns`` after the request had been queued, at ``times``."""
        self.at("QUEUE_START", times.start_ns - queue_ns)
        self.at("COMPUTE_START", times.start_ns)
        self.at("COMPUTE_INPUT_END", times.input_end_ns)
        self.at("COMPUTE_OUTPUT_START", times.output_start_ns)
        self.at("COMPUTE_END", times.end_ns)

    def entered(self, tensors: Iterable[Tensor]) -> None:
        """The request's inputs, as the client sent them."""
        self._keep("TENSOR_QUEUE_INPUT", tensors)

    def left(self, tensors: Iterable[Tensor]) -> None:
        """The model's outputs, before they are classified."""
        self._keep("TENSOR_BACKEND_OUTPUT", tensors)

    def _keep(self, activity: str, tensors: Iterable[Tensor]) -> None:
        if self.with_tensors:
            # Traces are written later; an array in a client's memory may have changed by then.
            self.tensors += [(activity, replace(tensor, array=tensor.array.copy())) for tensor in tensors]

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _SIZE_BYTES + sum(_size_bytes(tensor) for _, tensor in self.tensors)

    def to_json(self) -> bytes:
        """Its JSON objects, parted by commas: the request, each time, each tensor."""
        return b",\n".join(map(orjson.dumps, self._objects()))

    def _objects(self) -> Iterator[dict[str, object]]:
        request: dict[str, object] = {
            "id": self.id,
            "model_name": self.model_name,
            "model_version": self.model_version,
        }
        if self.request_id:
            request["request_id"] = self.request_id
        if self.parameters:
            request["parameters"] = dict(self.parameters)
        yield request
        for name, time_ns in self.times:
            yield {"id": self.id, "timestamps": [{"name": name, "ns": time_ns}]}
        for activity, tensor in self.tensors:
            yield {"id": self.id, "activity": activity, "tensor": _tensor_object(tensor)}


def _size_bytes(tensor: Tensor) -> int:
    if tensor.datatype is BYTES:
        return sum(map(len, tensor.array.reshape(-1).tolist()))
    return tensor.array.nbytes


def _tensor_object(tensor: Tensor) -> dict[str, object]:
    return {
        "name": tensor.name,
        "data": ",".join(_elements(tensor)),
        "shape": ",".join(map(str, tensor.shape)),
        "dtype": tensor.datatype.name,
    }


def _elements(tensor: Tensor) -> Iterator[str]:
    """Each element as Triton writes it, but for one-byte integers and FP16, of which it makes nothing readable."""
    flat = tensor.array.reshape(-1)
    if tensor.datatype is BYTES:
        return (f'"{element.decode(errors="backslashreplace")}"' for element in flat.tolist())
    if tensor.datatype is BOOL:
        return (str(int(element)) for element in flat.tolist())
    if tensor.datatype is BF16:
        flat = float32_from_bf16(flat.view(np.uint16))
    # numpy's own scalars print as many digits as their type has, Python's float all those of a double.
    return map(str, flat) if tensor.datatype.is_float else map(str, flat.tolist())
