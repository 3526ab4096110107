"""New ids of traces and spans: random, and never 0, which means none."""

from random import Random

from ortolan.core.trace_context import RANDOM, SAMPLED, TraceContext


class SpanIds:
    """Lives on the event loop."""

    def __init__(self, seed: int | None = None) -> None:
        """Without a ``seed`` from the system's randomness, so that no two processes have the same."""
        # No secret: whoever sees a trace sees its ids.
        self._random = Random(seed)  # noqa: S311

    def next_span(self) -> int:
        return self._random.getrandbits(64) or self.next_span()

    def next_trace(self) -> TraceContext:
        """A span that begins a trace."""
        trace_id = self._random.getrandbits(128) or 1
        return TraceContext(trace_id, self.next_span(), SAMPLED | RANDOM)
