"""Memories that sessions on the CPU's provider can be bound to in the place of a GPU's, and a comparison of answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ortolan.execution.device_memory import CudaMemory, HostMemory


class HostCuda(CudaMemory):
    """What copies to a GPU, with the runtime told that it is the host."""

    kind = "cpu"

    def holds(self, memory_info: Any) -> bool:
        return str(memory_info.name) == "Cpu"


class Elsewhere(HostMemory):
    """A device of which the graph uses nothing: as for inputs that a GPU's graph needs on the CPU."""

    def holds(self, _memory_info: Any) -> bool:
        return False


def same_bits(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    """Whether both are the same arrays: datatypes, shapes and every bit, also of numbers that are none."""
    return [(a.dtype, a.shape, a.tobytes()) for a in found] == [(a.dtype, a.shape, a.tobytes()) for a in expected]
