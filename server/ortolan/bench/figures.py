"""What an outcome says, in the units in which people compare servers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ortolan.bench.load import Outcome

_BUSY = 0.85
# At so many one latency is expected beyond; with fewer it would be their largest, whatever that is.
_FEWEST = {0.5: 1, 0.99: 100, 0.999: 1000}
_COUNTS = ("failed", "unanswered", "compared", "samples")


@dataclass(frozen=True, slots=True)
class Figures:
    """One point. ``None``: the machine does not tell it.

    Latencies are those of right answers, and of requests without any answer, which count as the patience with which
    they were waited for. NaN where there are too few to tell: none, for p99 fewer than 100, for p99.9 than 1,000.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us_per_request: float | None
    """CPU time of the server's processes, for each right answer."""
    resident_mib: float | None
    """Memory of the server's processes at the end; what several share counts once (PSS)."""
    generator_cores: float
    """How much of one core the load generator used."""
    failed: Mapping[str, int]
    unanswered: int
    compared: int
    """Answers whose numbers were compared with the right ones."""
    samples: int
    """How many latencies the quantiles are of; over several rounds, of all."""

    @property
    def bounded_by_generator(self) -> bool:
        """Whether the load generator itself was so busy that the server might have done more."""
        return self.generator_cores >= _BUSY

    @property
    def faults(self) -> int:
        return sum(self.failed.values()) + self.unanswered

    def as_json(self) -> dict[str, object]:
        return {key: None if value != value else value for key, value in asdict(self).items()}


def figures(outcome: Outcome) -> Figures:
    ordered = sorted([*outcome.latencies, *[outcome.patience_s] * outcome.unanswered])
    cpu_us = None
    if outcome.before and outcome.after and outcome.answered:
        cpu_us = (outcome.after.cpu_s - outcome.before.cpu_s) / outcome.answered * 1e6
    return Figures(
        outcome.answered / outcome.seconds,
        _known_ms(ordered, 0.5),
        _known_ms(ordered, 0.99),
        _known_ms(ordered, 0.999),
        cpu_us,
        outcome.after.shared_out_bytes / 2**20 if outcome.after else None,
        outcome.own_cpu_s / outcome.seconds,
        {reason: len(latencies) for reason, latencies in outcome.failed.items()},
        outcome.unanswered,
        outcome.compared,
        len(ordered),
    )


def _known_ms(ordered: Sequence[float], share: float) -> float:
    return quantile(ordered, share) * 1000 if len(ordered) >= _FEWEST[share] else math.nan


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values, which are in order, that at least ``share`` of them do not exceed; NaN for none."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else math.nan


def median(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over several rounds; counts are added up."""
    names = [field.name for field in fields(Figures) if field.name not in _COUNTS]
    middle: dict[str, Any] = {name: _middle([getattr(each, name) for each in rounds]) for name in names}
    failed: dict[str, int] = {}
    for each in rounds:
        for reason, count in each.failed.items():
            failed[reason] = failed.get(reason, 0) + count
    sums = {name: sum(getattr(each, name) for each in rounds) for name in ("unanswered", "compared", "samples")}
    return Figures(**middle, failed=failed, **sums)


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    # A latency that one round could not tell may have been its worst: it is not left out for being unknown.
    if any(math.isnan(value) for value in known):
        return math.nan
    return statistics.median(known) if known else None
