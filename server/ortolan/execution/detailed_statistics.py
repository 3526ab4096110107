"""The numbers of a version whose requests are also counted one by one, for Triton's summaries and histogram."""

from collections.abc import Sequence
from dataclasses import dataclass

from ortolan.execution.model_statistics import ExecutionTimes, ModelStatistics
from ortolan.execution.request_detail import DEFAULT_BOUNDS_MS, SUMMARISED, FirstResponses, RequestDetail
from ortolan.execution.sliding_quantiles import SlidingQuantiles


@dataclass(slots=True)
class DetailedStatistics(ModelStatistics):
    """The numbers of a version, and the detail of its requests, which is there."""

    def count_answered(self, rows: int, queue_ns: int, times: ExecutionTimes, duration_ns: int, now_ms: int) -> None:
        ModelStatistics.count_answered(self, rows, queue_ns, times, duration_ns, now_ms)
        detail = self.detail
        assert detail is not None  # noqa: S101 - it is why this class is
        if detail.first_responses is not None:
            detail.first_responses.add(duration_ns)
        if detail.summaries:
            stages = (duration_ns, queue_ns, times.input_ns, times.infer_ns, times.output_ns)
            for name, ns in zip(SUMMARISED, stages, strict=False):
                detail.see(name, ns, now_ms)

    def count_cache_hit(self, lookup_ns: int, now_ms: int) -> None:
        ModelStatistics.count_cache_hit(self, lookup_ns, now_ms)
        detail = self.detail
        assert detail is not None  # noqa: S101 - as above
        if detail.first_responses is not None:
            detail.first_responses.add(lookup_ns)
        detail.see("request", lookup_ns, now_ms)
        detail.see("queue", 0, now_ms)
        detail.see("cache_hit", lookup_ns, now_ms)

    def count_cache_miss(self, ns: int, now_ms: int) -> None:
        ModelStatistics.count_cache_miss(self, ns, now_ms)
        assert self.detail is not None  # noqa: S101 - as above
        self.detail.see("cache_miss", ns, now_ms)


@dataclass(frozen=True, slots=True)
class DetailOptions:
    """What the operator wants kept of every request."""

    histograms: bool = False
    summaries: bool = False

    def statistics(self, bounds_ms: Sequence[float] = ()) -> ModelStatistics:
        """Where a version counts; ``bounds_ms``: the buckets that its configuration chose, if any."""
        if not (self.histograms or self.summaries):
            return ModelStatistics()
        responses = FirstResponses(list(bounds_ms or DEFAULT_BOUNDS_MS)) if self.histograms else None
        summaries = {name: SlidingQuantiles() for name in SUMMARISED} if self.summaries else {}
        return DetailedStatistics(detail=RequestDetail(responses, summaries))
