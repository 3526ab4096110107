"""The numbers of model versions as they travel between processes and are added up. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ortolan.execution.latencies import Latencies
from ortolan.execution.model_statistics import BatchSizeStatistics, Duration, FailureReason, ModelStatistics
from ortolan.execution.request_detail import FirstResponses, RequestDetail
from ortolan.execution.sliding_quantiles import SlidingQuantiles

_COUNTS = ("inference_count", "execution_count", "failed_run_ns")
_DURATIONS = ("fail", "cache_hit", "cache_miss")
_LATENCIES = ("success", "queue", "compute_input", "compute_infer", "compute_output")
_STAGES = ("compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class VersionNumbers:
    """What one version did since it was loaded, and what it has now."""

    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    waiting_requests: int = 0
    memory_bytes: int = 0
    in_flight_requests: int = 0
    queue_age_s: float = 0.0
    """How long the request has waited that has waited longest."""

    def counted_only(self) -> "VersionNumbers":
        """Without what is true only now, for a process that is gone."""
        return VersionNumbers(self.statistics)


Totals = dict[str, VersionNumbers]
"""By ``key_of`` the version."""


def key_of(name: str, number: str) -> str:
    """The name under which the numbers of a version travel; no model's name has a slash."""
    return f"{name}/{number}"


def read_totals(told: Mapping[str, Any]) -> Totals:
    """What came as JSON, where it did; numbers of this process are taken as they are."""
    return {key: value if isinstance(value, VersionNumbers) else _read(value) for key, value in told.items()}


def _read(plain: Mapping[str, Any]) -> VersionNumbers:
    told = dict(plain["statistics"])
    told |= {name: Duration(**told[name]) for name in _DURATIONS}
    told |= {name: Latencies(**told[name]) for name in _LATENCIES}
    told["detail"] = _read_detail(told["detail"])
    told["failures"] = {FailureReason(reason): count for reason, count in told["failures"].items()}
    told["batches"] = {
        int(rows): BatchSizeStatistics(**{name: Duration(**stage) for name, stage in batch.items()})
        for rows, batch in told["batches"].items()
    }
    return VersionNumbers(**{**plain, "statistics": ModelStatistics(**told)})


def _read_detail(plain: Mapping[str, Any] | None) -> RequestDetail | None:
    if plain is None:
        return None
    responses = plain["first_responses"]
    summaries = {name: _read_quantiles(seen["slots"]) for name, seen in plain["summaries"].items()}
    return RequestDetail(FirstResponses(**responses) if responses else None, summaries)


def _read_quantiles(slots: Mapping[str, Mapping[str, int]]) -> SlidingQuantiles:
    numbered = {int(slot): {int(bucket): count for bucket, count in seen.items()} for slot, seen in slots.items()}
    return SlidingQuantiles(numbered)


def added(parts: Iterable[Mapping[str, VersionNumbers]]) -> Totals:
    """All of ``parts`` together: what was counted is added, and so is what each holds or has waiting.

    Of times the last one counts, and the longest load and wait.
    """
    whole: Totals = {}
    for part in parts:
        for key, numbers in part.items():
            _add(whole.setdefault(key, VersionNumbers()), numbers)
    return whole


def _add(into: VersionNumbers, numbers: VersionNumbers) -> None:
    into.waiting_requests += numbers.waiting_requests
    into.memory_bytes += numbers.memory_bytes
    into.in_flight_requests += numbers.in_flight_requests
    into.queue_age_s = max(into.queue_age_s, numbers.queue_age_s)
    sums, more = into.statistics, numbers.statistics
    sums.last_inference_ms = max(sums.last_inference_ms, more.last_inference_ms)
    sums.load_duration_ns = max(sums.load_duration_ns, more.load_duration_ns)
    for name in _COUNTS:
        setattr(sums, name, getattr(sums, name) + getattr(more, name))
    _add_durations(sums, more, _DURATIONS)
    for name in _LATENCIES:
        getattr(sums, name).plus(getattr(more, name))
    if more.detail is not None:
        sums.detail = sums.detail or RequestDetail()
        sums.detail.plus(more.detail)
    for rows, batch in more.batches.items():
        _add_durations(sums.batches.setdefault(rows, BatchSizeStatistics()), batch, _STAGES)
    for reason, count in more.failures.items():
        sums.failures[reason] += count


def _add_durations(into: Any, more: Any, names: Iterable[str]) -> None:
    for name in names:
        duration: Duration = getattr(more, name)
        getattr(into, name).add(duration.ns, duration.count)


def added_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all ``parts``, by their names."""
    whole: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            whole[name] = whole.get(name, 0) + count
    return whole


def added_errors(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """The same by protocol and code."""
    told = list(parts)
    protocols = dict.fromkeys(protocol for part in told for protocol in part)
    return {protocol: added_counts(part.get(protocol, {}) for part in told) for protocol in protocols}
