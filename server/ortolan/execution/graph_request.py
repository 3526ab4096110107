"""One request in the graph's own terms, as a version hands it to its scheduler."""

from collections.abc import Mapping
from dataclasses import dataclass

from ortolan.inference.datatypes import Array


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a client asks of the scheduler: 0 for nothing. The deadline is on the monotonic clock."""

    priority: int = 0
    timeout_us: int = 0
    deadline_ns: int = 0


NO_LIMITS = RequestLimits()

SequenceId = int | str


@dataclass(frozen=True, slots=True)
class SequenceTerms:
    """Which sequence a request belongs to, and whether it is the first or the last of it. The id is not 0 or empty."""

    id: SequenceId
    start: bool = False
    end: bool = False


@dataclass(slots=True)
class GraphRequest:
    """Inputs in the graph's shapes, checked against the declarations, and the outputs that are wanted."""

    inputs: Mapping[str, Array]
    output_names: tuple[str, ...]
    rows: int
    shapes: object = None
    """Equal for requests that may share a batch."""
    limits: RequestLimits = NO_LIMITS
    sequence: SequenceTerms | None = None

    @property
    def size_bytes(self) -> int:
        return sum(_size_bytes(array) for array in self.inputs.values())

    def part(self, start: int, size: int) -> "GraphRequest":
        """The ``size`` rows from ``start`` on, or as many as there are left."""
        inputs = {name: array[start : start + size] for name, array in self.inputs.items()}
        return GraphRequest(inputs, self.output_names, min(size, self.rows - start), self.shapes, self.limits)


def _size_bytes(array: Array) -> int:
    """What the tensor holds; BYTES elements are objects, whose array has only their addresses."""
    if not array.dtype.hasobject:
        return array.nbytes
    return sum(map(len, array.reshape(-1).tolist()))
