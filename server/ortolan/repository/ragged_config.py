"""The ``batch_input`` and ``batch_output`` blocks in our words: what a ragged batch tells the model of its requests."""

import enum
from dataclasses import dataclass

from ortolan.inference.datatypes import Datatype


class BatchInputKind(enum.Enum):
    """What the server tells of each request's source input; the values are Triton's numbers."""

    ELEMENT_COUNT = 0
    ACCUMULATED_ELEMENT_COUNT = 1
    ACCUMULATED_ELEMENT_COUNT_WITH_ZERO = 2
    MAX_ELEMENT_COUNT_AS_SHAPE = 3
    ITEM_SHAPE = 4
    ITEM_SHAPE_FLATTEN = 5

    @property
    def config_name(self) -> str:
        return f"BATCH_{self.name}"


@dataclass(frozen=True, slots=True)
class BatchInput:
    """Inputs of the graph, ``targets``, that the server makes from the shapes of the input ``source``."""

    kind: BatchInputKind
    targets: tuple[str, ...]
    datatype: Datatype
    source: str


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """Outputs whose elements are dealt to the requests by the shapes of the input ``source``."""

    targets: tuple[str, ...]
    source: str
