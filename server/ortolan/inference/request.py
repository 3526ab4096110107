"""What a client asks and what it gets: the data that frontends, codecs and core hand to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.shared_memory import SharedMemorySlice

MAX_TENSORS = 4096
"""As many inputs and as many outputs as one request may list."""
MAX_PARAMETERS = 256
"""As many parameters as a request may have for itself."""
MAX_TENSOR_PARAMETERS = 64
"""As many as each of its inputs and of the outputs that it lists may have."""

ParameterValue = bool | int | float | str
Parameters = Mapping[str, ParameterValue]

UNREAD: Array = np.empty(0, np.uint8)
"""Stands for elements that are still in a client's memory: its shape is not theirs, so it cannot pass for them."""


@dataclass(slots=True)
class Tensor:
    """One named tensor. ``array`` has exactly ``shape`` and the datatype's numpy type (BYTES: objects, each ``bytes``).

    The array may be a read-only view of the request's body: nothing may write to it.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    array: Array
    shared_memory: SharedMemorySlice | None = None
    """Of an input: where its elements still have to be read, and until then ``array`` is ``UNREAD``. Of an output:
    where they were written, so that the response does not carry them."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the client wants, and in which form.

    ``binary``: over HTTP, after the JSON instead of in it. ``class_count``: above 0, the classification extension.
    ``shared_memory``: there instead of in the response.
    """

    name: str
    binary: bool = False
    class_count: int = 0
    shared_memory: SharedMemorySlice | None = None


@dataclass(slots=True)
class InferenceRequest:
    """One inference. No ``outputs`` means all of them; ``model_version`` "" means the one that the policy prefers."""

    model_name: str
    model_version: str = ""
    id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=dict)
    binary_by_default: bool = False
    """Over HTTP: whether outputs that the request does not list go after the JSON (``binary_data_output``)."""
    deadline_ns: int = 0
    """When the client will not want the answer any more, on the monotonic clock; 0 for never."""

    @property
    def uses_shared_memory(self) -> bool:
        """Whether an input is still to be read from a client's memory, or an output to be written there."""
        for tensor in self.inputs:
            if tensor.shared_memory is not None:
                return True
        for output in self.outputs:  # noqa: SIM110 - any() takes twice as long, and every request comes by
            if output.shared_memory is not None:
                return True
        return False


@dataclass(slots=True)
class ResponseTiming:
    """Where the time of one request went, in nanoseconds, and the rows of the batch that it was part of."""

    queue_ns: int
    compute_ns: int
    batch_rows: int
    input_ns: int = 0
    """Of ``compute_ns``: putting the batch together."""
    output_ns: int = 0
    """Of ``compute_ns``: taking the answers apart."""

    def plus(self, other: "ResponseTiming") -> "ResponseTiming":
        """The time of two steps of one request; the rows are those of the larger batch."""
        return ResponseTiming(
            self.queue_ns + other.queue_ns,
            self.compute_ns + other.compute_ns,
            max(self.batch_rows, other.batch_rows),
            self.input_ns + other.input_ns,
            self.output_ns + other.output_ns,
        )


@dataclass(slots=True)
class InferenceResponse:
    """The answer to one request; ``outputs`` in the order in which they were asked for."""

    model_name: str
    model_version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Parameters = field(default_factory=dict)
    timing: ResponseTiming | None = None
