"""What every version that is served can do, whether it has a graph of its own or is an ensemble of others."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ortolan.core.memory_meter import MemoryUse
from ortolan.core.model_version import LoadedModel
from ortolan.core.trace import Trace
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.execution.sequence_scheduler import AnyScheduler
from ortolan.inference.request import InferenceRequest, InferenceResponse
from ortolan.inference.tensor_spec import ModelSignature
from ortolan.repository.model_config import ModelConfig


class ServedVersion(Protocol):
    """A version that is ready, or draining. Lives on the event loop."""

    name: str
    number: int
    number_text: str
    config: ModelConfig
    signature: ModelSignature
    identity: object
    """No other version has the same, not even the next one of the same number."""
    memory: MemoryUse
    """What it holds; nothing for an ensemble."""
    used_s: float
    """When it was last asked, or made, by the loop's clock."""

    @property
    def loaded(self) -> LoadedModel | None:
        """What was loaded for it; None for an ensemble, which has nothing of its own."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each output that has some."""

    @property
    def statistics(self) -> ModelStatistics: ...

    @property
    def waiting_requests(self) -> int: ...

    @property
    def queue_age_s(self) -> float:
        """How long the request has waited that has waited longest; 0 where none waits."""

    @property
    def in_flight_requests(self) -> int:
        """Requests that are inside: that wait or run."""

    @property
    def live_sequences(self) -> int:
        """Sequences that have started and not ended, whose next requests only this version can answer."""

    @property
    def schedulers(self) -> Sequence[AnyScheduler]:
        """Those that run its requests; of an ensemble, those of its steps."""

    @property
    def keeps_answers(self) -> bool:
        """Whether it has a response cache."""

    def start(self) -> None: ...

    async def infer(self, request: InferenceRequest, trace: Trace | None = None) -> InferenceResponse:
        """The answer to ``request``. Raises InvalidArgument when it does not fit, and what execution raises."""

    def checked_rows(self, request: InferenceRequest) -> int:
        """The rows of ``request``. Raises InvalidArgument, saying for which request, when it does not fit."""

    def hold(self) -> None:
        """Have it let requests in until ``release``, even after ``refuse_new``: an ensemble relies on it."""

    def release(self) -> None: ...

    def refuse_new(self) -> None:
        """Let no further request in, once nobody holds it; those inside are still answered."""

    async def drained(self) -> None:
        """Return once no request waits or runs, and none can come."""

    def join(self, timeout_s: float) -> bool:
        """Wait for its threads to end. False if one of them is still busy after ``timeout_s``."""
