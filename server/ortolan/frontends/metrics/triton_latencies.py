"""Triton's histogram of first responses and its summaries, where the operator asked for them."""

from collections.abc import Callable, Iterator, Sequence

from ortolan.execution.model_statistics import ModelStatistics
from ortolan.execution.request_detail import FIRST_RESPONSE
from ortolan.frontends.metrics.exposition import Family, bound_texts, histogram, summary
from ortolan.frontends.metrics.shown_version import ShownVersion

# Their names, what the detail calls them, the words, and what has their count and sum.
_SUMMARIES: tuple[tuple[str, str, str, Callable[[ModelStatistics], tuple[int, int]]], ...] = (
    (
        "nv_inference_request_summary_us",
        "request",
        "Summary of inference request duration in microseconds (includes cached requests)",
        lambda numbers: (numbers.success.count, numbers.success.ns),
    ),
    (
        "nv_inference_queue_summary_us",
        "queue",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        lambda numbers: (numbers.queue.count, numbers.queue.ns),
    ),
    (
        "nv_inference_compute_input_summary_us",
        "compute_input",
        "Summary of compute input duration in microseconds (does not include cached requests)",
        lambda numbers: (numbers.compute_input.count, numbers.compute_input.ns),
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "compute_infer",
        "Summary of compute inference duration in microseconds (does not include cached requests)",
        lambda numbers: (numbers.compute_infer.count, numbers.compute_infer.ns),
    ),
    (
        "nv_inference_compute_output_summary_us",
        "compute_output",
        "Summary of compute output duration in microseconds (does not include cached requests)",
        lambda numbers: (numbers.compute_output.count, numbers.compute_output.ns),
    ),
    (
        "nv_cache_hit_summary_per_model",
        "cache_hit",
        "Summary of cache hit duration per model, in microseconds",
        lambda numbers: (numbers.cache_hit.count, numbers.cache_hit.ns),
    ),
    (
        "nv_cache_miss_summary_per_model",
        "cache_miss",
        "Summary of cache miss duration per model, in microseconds",
        lambda numbers: (numbers.cache_miss.count, numbers.cache_miss.ns),
    ),
)


def triton_latencies(versions: Sequence[ShownVersion], quantiles: Sequence[float], now_ms: int) -> Iterator[Family]:
    """What was kept of requests one by one; nothing where nothing was. ``now_ms``: since the epoch."""
    yield Family(
        FIRST_RESPONSE,
        "histogram",
        "Duration from request to first response in milliseconds",
        _first_responses(versions),
    )
    for name, key, explanation, counted in _SUMMARIES:
        shown = [each for each in versions if "cache" not in key or each.told.version.keeps_answers]
        yield Family(name, "summary", explanation, _summaries(name, key, shown, quantiles, now_ms, counted))


def _first_responses(versions: Sequence[ShownVersion]) -> Iterator[str]:
    for each in versions:
        if (detail := each.statistics.detail) is not None and (seen := detail.first_responses) is not None:
            bounds = bound_texts(seen.bounds_ms)
            yield histogram(FIRST_RESPONSE, each.labels, bounds, seen.buckets, seen.ns / 1e6)


def _summaries(
    name: str,
    key: str,
    versions: Sequence[ShownVersion],
    quantiles: Sequence[float],
    now_ms: int,
    counted: Callable[[ModelStatistics], tuple[int, int]],
) -> Iterator[str]:
    for each in versions:
        detail = each.statistics.detail
        seen = detail.summaries.get(key) if detail is not None else None
        if seen is not None:
            found = seen.quantiles(quantiles, now_ms)
            count, total_ns = counted(each.statistics)
            pairs = [(share, value / 1000) for share, value in zip(quantiles, found, strict=True)]
            yield summary(name, each.placed, pairs, count, total_ns // 1000)
