"""One execution that is under way: who still wants its answer, and how to stop it when no one does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Terminable(Protocol):
    """A run inside ONNX Runtime that another thread can end."""

    def terminate(self) -> None: ...


_R = TypeVar("_R")


@dataclass(slots=True, eq=False)
class Running(Generic[_R]):
    """The requests that one instance executes together. ``abandon`` comes from other threads than the instance's."""

    requests: Sequence[_R]
    wanted: int
    """How many of the requests still have someone who waits."""
    started_ns: int = field(default_factory=time.monotonic_ns)
    abandoned: bool = False
    _run: Terminable | None = None

    def begin(self, run: Terminable) -> bool:
        """Tell by which ``run`` this is executed. False when it is not wanted any more and must not start."""
        # Set before the flag is read, as ``abandon`` sets the flag before it reads the run: one of the two sees both.
        self._run = run
        return not self.abandoned

    def forget_one(self) -> None:
        """One of the requests is not wanted any more; without any that is, the run is ended."""
        self.wanted -= 1
        if self.wanted <= 0:
            self.abandon()

    def abandon(self) -> None:
        """End the run: before it starts, or between two nodes of the graph. A single long node runs to its end."""
        self.abandoned = True
        run = self._run
        if run is not None:
            run.terminate()
