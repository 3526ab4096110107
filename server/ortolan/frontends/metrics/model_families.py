"""Our metrics of models, in base units: latencies by stage, batches, outcomes, who waits, what they take."""

from collections.abc import Iterator, Sequence

from ortolan.core.utilization import Utilization
from ortolan.core.version_totals import key_of
from ortolan.execution.latencies import BOUNDS_NS, Latencies
from ortolan.execution.model_statistics import FailureReason, ModelStatistics
from ortolan.frontends.metrics.exposition import Family, bound_texts, histogram, sample
from ortolan.frontends.metrics.shown_version import ShownVersion

_DURATION = "ortolan_request_duration_seconds"
_STAGE = "ortolan_request_stage_duration_seconds"
_BATCH = "ortolan_batch_size"
_REQUESTS = "ortolan_requests_total"
_DEPTH = "ortolan_queue_depth"
_AGE = "ortolan_queue_age_seconds"
_IN_FLIGHT = "ortolan_requests_in_flight"
_MEMORY = "ortolan_model_memory_bytes"
_USE = "ortolan_model_utilization"
_BOUNDS = bound_texts(bound / 1e9 for bound in BOUNDS_NS)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BATCH_BOUNDS = bound_texts(BATCH_BOUNDS)


def model_families(versions: Sequence[ShownVersion], utilization: Utilization) -> Iterator[Family]:
    # All are there from the start: rate() takes a series that appears for one that was there before its first request.
    yield Family(
        _DURATION,
        "histogram",
        "Time from the arrival of an answered request in the core to its answer",
        (_latencies(_DURATION, each.statistics.success, each.labels) for each in versions),
    )
    yield Family(
        _STAGE,
        "histogram",
        "Time of answered requests in each stage: waiting, preparing inputs, running the model, preparing outputs",
        _stages(versions),
    )
    yield Family(
        _BATCH,
        "histogram",
        "Rows of each execution of the model",
        (_batches(each) for each in versions if each.told.version.loaded is not None),
    )
    yield Family(_REQUESTS, "counter", "Requests that ended, by how", _outcomes(versions))
    yield from _gauges(versions)
    key = "Part of the device time its instances could take that its requests need: 0 to 1"
    yield Family(_USE, "gauge", key, _uses(versions, utilization))


def _gauges(versions: Sequence[ShownVersion]) -> Iterator[Family]:
    yield Family(
        _DEPTH,
        "gauge",
        "Requests that wait for an instance",
        (sample(_DEPTH, each.told.numbers.waiting_requests, each.labels) for each in versions),
    )
    yield Family(
        _AGE,
        "gauge",
        "How long the request has waited that has waited longest; 0 where none waits",
        (sample(_AGE, each.told.numbers.queue_age_s, each.labels) for each in versions),
    )
    yield Family(
        _IN_FLIGHT,
        "gauge",
        "Requests that wait or run",
        (sample(_IN_FLIGHT, each.told.numbers.in_flight_requests, each.labels) for each in versions),
    )
    holding = [each for each in versions if each.told.version.loaded is not None]
    yield Family(
        _MEMORY,
        "gauge",
        "Memory that the version holds, as measured when it was loaded",
        (sample(_MEMORY, each.told.numbers.memory_bytes, each.labels) for each in holding),
    )


def _latencies(name: str, latencies: Latencies, labels: str) -> str:
    return histogram(name, labels, _BOUNDS, latencies.buckets, latencies.ns / 1e9)


def _stages(versions: Sequence[ShownVersion]) -> Iterator[str]:
    for each in versions:
        numbers = each.statistics
        stages = {
            "queue": numbers.queue,
            "compute_input": numbers.compute_input,
            "compute_infer": numbers.compute_infer,
            "compute_output": numbers.compute_output,
        }
        for stage, latencies in stages.items():
            yield _latencies(_STAGE, latencies, f'{each.labels},stage="{stage}"')


def _batches(each: ShownVersion) -> str:
    """By what is counted of each size already, so that an execution costs nothing more."""
    counts, rows_in_all = [0] * (len(BATCH_BOUNDS) + 1), 0
    for rows, batch in each.statistics.batches.items():
        count = batch.compute_infer.count
        counts[next((i for i, bound in enumerate(BATCH_BOUNDS) if rows <= bound), -1)] += count
        rows_in_all += rows * count
    return histogram(_BATCH, each.labels, _BATCH_BOUNDS, counts, rows_in_all)


def _outcomes(versions: Sequence[ShownVersion]) -> Iterator[str]:
    for each in versions:
        for outcome, count in _ended(each.statistics).items():
            yield sample(_REQUESTS, count, f'{each.labels},outcome="{outcome}"')


def _ended(numbers: ModelStatistics) -> dict[str, int]:
    failures = {reason.value.lower(): numbers.failures[reason] for reason in FailureReason}
    return {"success": numbers.success.count, **failures}


def _uses(versions: Sequence[ShownVersion], utilization: Utilization) -> Iterator[str]:
    for each in versions:
        version = each.told.version
        if version.loaded is not None:
            value = utilization.versions.get(key_of(version.name, version.number_text), 0.0)
            yield sample(_USE, round(value, 6), each.labels)
