"""Triton's counters and gauges of models, by its names, labels and units."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ortolan.execution.model_statistics import ModelStatistics
from ortolan.frontends.metrics.exposition import Family, sample
from ortolan.frontends.metrics.shown_version import ShownVersion


@dataclass(frozen=True, slots=True)
class _Counter:
    """One metric with one sample for each version."""

    name: str
    explanation: str
    value: Callable[[ModelStatistics], float]


_COUNTERS = (
    _Counter(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        lambda numbers: numbers.success.count,
    ),
    _Counter(
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        lambda numbers: numbers.inference_count,
    ),
    _Counter(
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        lambda numbers: numbers.execution_count,
    ),
)
_LATENCIES = (
    _Counter(
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds",
        lambda numbers: numbers.success.ns // 1000,
    ),
    _Counter(
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds",
        lambda numbers: numbers.queue.ns // 1000,
    ),
    _Counter(
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds",
        lambda numbers: numbers.compute_input.ns // 1000,
    ),
    _Counter(
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds",
        lambda numbers: numbers.compute_infer.ns // 1000,
    ),
    _Counter(
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds",
        lambda numbers: numbers.compute_output.ns // 1000,
    ),
)
_CACHE = (
    _Counter("nv_cache_num_hits_per_model", "Number of cache hits per model", lambda numbers: numbers.cache_hit.count),
    _Counter(
        "nv_cache_num_misses_per_model", "Number of cache misses per model", lambda numbers: numbers.cache_miss.count
    ),
)
_CACHE_LATENCIES = (
    _Counter(
        "nv_cache_hit_duration_per_model",
        "Total cache hit duration per model, in microseconds",
        lambda numbers: numbers.cache_hit.ns // 1000,
    ),
    _Counter(
        "nv_cache_miss_duration_per_model",
        "Total cache miss duration per model, in microseconds",
        lambda numbers: numbers.cache_miss.ns // 1000,
    ),
)
_FAILURES = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"
_LOAD = "nv_model_load_duration_secs"


def triton_counters(versions: Sequence[ShownVersion], latencies: bool) -> Iterator[Family]:
    """With ``latencies`` those that add up durations as well."""
    for counter in (*_COUNTERS, *(_LATENCIES if latencies else ())):
        yield _counted(counter, versions)
    yield Family(_FAILURES, "counter", "Number of failed inference requests, all batch sizes", _failures(versions))
    yield Family(
        _PENDING,
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
        (sample(_PENDING, each.told.numbers.waiting_requests, each.labels) for each in versions),
    )
    yield Family(
        _LOAD,
        "gauge",
        "Model load time in seconds",
        (sample(_LOAD, each.statistics.load_duration_ns / 1e9, each.labels) for each in versions),
    )
    caching = [each for each in versions if each.told.version.keeps_answers]
    for counter in (*_CACHE, *(_CACHE_LATENCIES if latencies else ())):
        yield Family(
            counter.name,
            "counter",
            counter.explanation,
            [sample(counter.name, counter.value(each.statistics), each.labels) for each in caching],
        )


def _counted(counter: _Counter, versions: Sequence[ShownVersion]) -> Family:
    lines = (sample(counter.name, counter.value(each.statistics), each.placed) for each in versions)
    return Family(counter.name, "counter", counter.explanation, lines)


def _failures(versions: Sequence[ShownVersion]) -> Iterator[str]:
    for each in versions:
        for reason, count in each.statistics.failures.items():
            yield sample(_FAILURES, count, f'{each.labels},reason="{reason.value}"')
