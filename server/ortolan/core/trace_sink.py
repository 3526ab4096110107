"""Where traces go, whatever they look like there."""

from collections.abc import Callable
from typing import Protocol

from ortolan.core.frontend_trace import FrontendTrace
from ortolan.core.trace import Trace
from ortolan.core.trace_settings import TraceSettings
from ortolan.inference.request import InferenceRequest


class TraceSink(Protocol):
    """Makes the traces of requests, and keeps them once they have ended."""

    follows_callers: bool
    """Whether a request is traced, whatever rate and count say, whose caller traces it."""
    tells_of_refusals: bool
    """Whether the end of a request that failed is when its client was told."""

    def begun(
        self, request: InferenceRequest, version: int, settings: TraceSettings, frontend: FrontendTrace | None
    ) -> Trace:
        """The trace of ``request``, which ``version`` is to answer now."""

    def keeper(self, settings: TraceSettings) -> Callable[[Trace], None]:
        """What takes the traces of requests that were chosen by ``settings``, each once it has ended."""

    def close(self) -> None:
        """Return when every trace is kept. Blocks, for seconds at most."""
