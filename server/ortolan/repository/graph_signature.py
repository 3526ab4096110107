"""What an ONNX graph declares of its inputs and outputs, as the execution floor reads it from a session."""

from dataclasses import dataclass

from ortolan.inference.datatypes import Datatype


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One input or output of the graph. ``shape`` has -1 for every symbolic or unknown size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    optional: bool = False
    """An initializer that is an input too, so that a request may leave it out."""


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """The graph's inputs and outputs, in the graph's own order."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
