"""The numbers of model versions as they travel between processes and are added up. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ortolan.execution.model_statistics import BatchSizeStatistics, Duration, FailureReason, ModelStatistics

_COUNTS = ("inference_count", "execution_count")
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
_STAGES = ("compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class VersionNumbers:
    """What one version did since it was loaded, and what it has now."""

    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    waiting_requests: int = 0
    memory_bytes: int = 0

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
    told["failures"] = {FailureReason(reason): count for reason, count in told["failures"].items()}
    told["batches"] = {
        int(rows): BatchSizeStatistics(**{name: Duration(**stage) for name, stage in batch.items()})
        for rows, batch in told["batches"].items()
    }
    return VersionNumbers(ModelStatistics(**told), plain["waiting_requests"], plain["memory_bytes"])


def added(parts: Iterable[Mapping[str, VersionNumbers]]) -> Totals:
    """All of ``parts`` together: what was counted is added, and so is what each holds or has waiting.

    Of times the last one counts, and the longest load.
    """
    whole: Totals = {}
    for part in parts:
        for key, numbers in part.items():
            _add(whole.setdefault(key, VersionNumbers()), numbers)
    return whole


def _add(into: VersionNumbers, numbers: VersionNumbers) -> None:
    into.waiting_requests += numbers.waiting_requests
    into.memory_bytes += numbers.memory_bytes
    sums, more = into.statistics, numbers.statistics
    sums.last_inference_ms = max(sums.last_inference_ms, more.last_inference_ms)
    sums.load_duration_ns = max(sums.load_duration_ns, more.load_duration_ns)
    for name in _COUNTS:
        setattr(sums, name, getattr(sums, name) + getattr(more, name))
    _add_durations(sums, more, _DURATIONS)
    for rows, batch in more.batches.items():
        _add_durations(sums.batches.setdefault(rows, BatchSizeStatistics()), batch, _STAGES)
    for reason, count in more.failures.items():
        sums.failures[reason] += count


def _add_durations(into: Any, more: Any, names: Iterable[str]) -> None:
    for name in names:
        duration: Duration = getattr(more, name)
        getattr(into, name).add(duration.ns, duration.count)
