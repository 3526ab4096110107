"""What an ONNX graph declares of its inputs and outputs, as the execution floor reads it from a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ortolan.inference.datatypes import Datatype


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One input or output of the graph. ``shape`` has -1 for every symbolic or unknown size; None is any rank."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] | None
    optional: bool = False
    """An input that a request may leave out: it has a default, or the graph does without."""
    batchable: bool = True
    """Whether an open first size may be the batch's; that of a sequence counts the elements."""


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """The graph's inputs and outputs, in the graph's own order."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For outputs that were maps: the class of each column."""
