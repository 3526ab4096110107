"""The trace of one request: what happened to it and when, and how that looks in Triton's trace files."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from math import prod

import numpy as np
import orjson

from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import BF16, BOOL, BYTES, Array, Datatype, float32_from_bf16
from ortolan.inference.request import Parameters, Tensor

# What a trace without tensors and parameters takes in memory, roughly.
_SIZE_BYTES = 2000
_MOST_ELEMENTS = 1000
"""Of one tensor; whoever wants whole tensors has the client for that."""
_MOST_ELEMENTS_IN_ALL = 50_000
_LONGEST_ELEMENT_BYTES = 1024
_MOST_PARAMETERS = 64
_LONGEST_PARAMETER = 1024


@dataclass(frozen=True, slots=True)
class TracedTensor:
    """The beginning of a tensor, apart from the memory that the whole one is in."""

    activity: str
    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    elements: Array
    """Flat: the first of the tensor's elements, in their order."""

    @property
    def size_bytes(self) -> int:
        if self.datatype is BYTES:
            return sum(map(len, self.elements.tolist()))
        return self.elements.nbytes


@dataclass(slots=True)
class Trace:
    """A request that is being traced. Times are nanoseconds on the monotonic clock, as Triton's are."""

    id: int
    model_name: str
    model_version: int
    request_id: str
    parameters: Mapping[str, str]
    """See ``traced_parameters``."""
    with_times: bool
    with_tensors: bool
    times: list[tuple[str, int]] = field(default_factory=list)
    """Name and time, in the order in which they came."""
    tensors: list[TracedTensor] = field(default_factory=list)

    def at(self, name: str, time_ns: int) -> None:
        if self.with_times:
            self.times.append((name, time_ns))

    def executed(self, queue_ns: int, times: ExecutionTimes, batch_rows: int) -> None:  # noqa: ARG002
        """The model ran: ``queue_ns`` after the request had been queued, at ``times``, over so many rows.

        All requests of one execution are told the same ``times``, as one object.
        """
        self.walked(queue_ns, times)

    def walked(self, queue_ns: int, times: ExecutionTimes) -> None:
        """The steps of an ensemble ran, and waited for ``queue_ns`` in all; ``times`` are sums of theirs."""
        self.at("QUEUE_START", times.start_ns - queue_ns)
        self.at("COMPUTE_START", times.start_ns)
        self.at("COMPUTE_INPUT_END", times.input_end_ns)
        self.at("COMPUTE_OUTPUT_START", times.output_start_ns)
        self.at("COMPUTE_END", times.end_ns)

    def step(self, model_name: str, model_version: int) -> "AbstractContextManager[Trace | None]":  # noqa: ARG002
        """A block in which a step of the ensemble asks this model; its own trace, if steps have some."""
        return nullcontext()

    def failed(self, error: BaseException) -> None:
        """There will be no answer."""

    def entered(self, tensors: Iterable[Tensor]) -> None:
        """The request's inputs, as the client sent them."""
        self._keep("TENSOR_QUEUE_INPUT", tensors)

    def left(self, tensors: Iterable[Tensor]) -> None:
        """The model's outputs, before they are classified."""
        self._keep("TENSOR_BACKEND_OUTPUT", tensors)

    def _keep(self, activity: str, tensors: Iterable[Tensor]) -> None:
        if not self.with_tensors:
            return
        left = _MOST_ELEMENTS_IN_ALL - sum(len(kept.elements) for kept in self.tensors)
        for tensor in tensors:
            beginning = _beginning(tensor, min(_MOST_ELEMENTS, left))
            left -= len(beginning)
            self.tensors.append(TracedTensor(activity, tensor.name, tensor.datatype, tensor.shape, beginning))

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, roughly."""
        texts = sum(len(name) + len(value) for name, value in self.parameters.items())
        return _SIZE_BYTES + texts + sum(tensor.size_bytes for tensor in self.tensors)

    def to_json(self) -> Iterator[bytes]:
        """Its JSON objects: the request, each time, each tensor."""
        return map(orjson.dumps, self._objects())

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
        for tensor in self.tensors:
            yield {"id": self.id, "activity": tensor.activity, "tensor": _tensor_object(tensor)}


def traced_parameters(parameters: Parameters) -> dict[str, str]:
    """Those of a request's parameters that are text: the first of them, and the beginning of each."""
    texts = ((name, value) for name, value in parameters.items() if isinstance(value, str))
    return {name[:_LONGEST_PARAMETER]: value[:_LONGEST_PARAMETER] for name, value in islice(texts, _MOST_PARAMETERS)}


def _beginning(tensor: Tensor, most: int) -> Array:
    """A copy of the first elements, of text the beginning: a view would keep all of the tensor in memory."""
    elements: Array = tensor.array.flat[:most]
    if tensor.datatype is BYTES:
        elements[:] = [element[:_LONGEST_ELEMENT_BYTES] for element in elements.tolist()]
    return elements


def _tensor_object(tensor: TracedTensor) -> dict[str, object]:
    written: dict[str, object] = {
        "name": tensor.name,
        "data": ",".join(element_texts(tensor)),
        "shape": ",".join(map(str, tensor.shape)),
        "dtype": tensor.datatype.name,
    }
    count = prod(tensor.shape)
    # No member of Triton's, whose files have all elements.
    return written if count == len(tensor.elements) else {**written, "elements": count}


def element_texts(tensor: TracedTensor) -> Iterator[str]:
    """Each element as Triton writes it, but for one-byte integers and FP16, of which it makes nothing readable."""
    flat = tensor.elements
    if tensor.datatype is BYTES:
        return (f'"{element.decode(errors="backslashreplace")}"' for element in flat.tolist())
    if tensor.datatype is BOOL:
        return (str(int(element)) for element in flat.tolist())
    if tensor.datatype is BF16:
        flat = float32_from_bf16(flat.view(np.uint16))
    # numpy's own scalars print as many digits as their type has, Python's float all those of a double.
    return map(str, flat) if tensor.datatype.is_float else map(str, flat.tolist())
