"""One inference as a client sees it: what is asked, what comes, or the refusal. The same for every transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from ortolan.inference.datatypes import BY_NAME

Parameter = bool | int | float | str

NUMPY: Mapping[str, Any] = {
    **{name: datatype.numpy for name, datatype in BY_NAME.items()},
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""How a client has an array of each datatype; elements of BYTES are ``bytes``."""


@dataclass(frozen=True)
class Named:
    """A tensor with its name."""

    name: str
    datatype: str
    array: np.ndarray

    @property
    def elements(self) -> object:
        """What is the same for equal tensors only: the bits of numbers, the bytes of texts."""
        shape, kept = self.array.shape, self.array.ravel()
        return self.datatype, shape, kept.tolist() if self.datatype == "BYTES" else kept.tobytes()


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for; ``classes`` above 0 is the classification extension."""

    name: str
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """One inference."""

    model: str
    inputs: tuple[Named, ...]
    outputs: tuple[Wanted, ...] = ()
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """What came; ``outputs`` in their order."""

    model: str
    version: str
    id: str
    outputs: tuple[Named, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {output.name: output.array for output in self.outputs}

    @property
    def only(self) -> Named:
        (output,) = self.outputs
        return output


class Refused(Exception):
    """An error instead: ``status`` is HTTP's number, gRPC's code, or "" where a stream tells none."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
