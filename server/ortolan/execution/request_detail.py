"""What is counted of each request only where the operator asks for it: Triton's summaries and histogram. Pure."""

from bisect import bisect_left
from dataclasses import dataclass, field

from ortolan.execution.sliding_quantiles import SlidingQuantiles

FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
"""The one metric for which a model's configuration may choose buckets."""
DEFAULT_BOUNDS_MS = (100.0, 500.0, 2000.0, 5000.0)
"""Triton's."""
SUMMARISED = ("request", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@dataclass(slots=True)
class FirstResponses:
    """Times to the first response, which is the only one, by upper bounds in milliseconds and one bucket beyond."""

    bounds_ms: list[float] = field(default_factory=lambda: list(DEFAULT_BOUNDS_MS))
    buckets: list[int] = field(default_factory=list)
    ns: int = 0

    def __post_init__(self) -> None:
        self.buckets = self.buckets or [0] * (len(self.bounds_ms) + 1)

    def add(self, ns: int) -> None:
        self.buckets[bisect_left(self.bounds_ms, ns / 1e6)] += 1
        self.ns += ns

    def plus(self, more: "FirstResponses") -> None:
        """Have what ``more`` counted by the same bounds counted here, too; by others it cannot be."""
        if self.bounds_ms == more.bounds_ms:
            self.ns += more.ns
            self.buckets = [ours + theirs for ours, theirs in zip(self.buckets, more.buckets, strict=True)]


@dataclass(slots=True)
class RequestDetail:
    """What is kept of the requests of one version; what was not asked for is empty."""

    first_responses: FirstResponses | None = None
    summaries: dict[str, SlidingQuantiles] = field(default_factory=dict)
    """Durations in nanoseconds, by the names of ``SUMMARISED``."""

    def see(self, name: str, ns: int, now_ms: int) -> None:
        if self.summaries:
            self.summaries[name].see(ns, now_ms)

    def plus(self, more: "RequestDetail") -> None:
        """Have what ``more`` kept kept here, too."""
        if more.first_responses is not None:
            if self.first_responses is None:
                self.first_responses = FirstResponses(list(more.first_responses.bounds_ms))
            self.first_responses.plus(more.first_responses)
        for name, seen in more.summaries.items():
            self.summaries.setdefault(name, SlidingQuantiles()).plus(seen)
