"""Prometheus' text format, read: a page of metrics → samples by name, and quantiles out of histograms; pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


Page = Mapping[str, Sequence[Sample]]
Bucket = tuple[float, float]
"""An upper bound, and how many are not above it."""


def samples(text: str, names: Collection[str]) -> Page:
    """The samples of ``names``, in the page's order; lines that are none are left out."""
    found: dict[str, list[Sample]] = {}
    # What else Python takes for the end of a line may stand in a label.
    for line in text.split("\n"):
        if (match := _SAMPLE.match(line)) and match[1] in names:
            value = _number(match[3])
            if value is not None:
                labels = {name: _ESCAPED.sub(_unescaped, text) for name, text in _LABEL.findall(match[2] or "")}
                found.setdefault(match[1], []).append(Sample(labels, value))
    return found


def buckets(of: Iterable[Sample]) -> tuple[Bucket, ...]:
    """The buckets of one histogram, by their bounds."""
    bounds = ((_number(sample.labels.get("le", "")), sample.value) for sample in of)
    return tuple(sorted((bound, count) for bound, count in bounds if bound is not None))


def quantile(share: float, since: Sequence[Bucket], now: Sequence[Bucket]) -> float | None:
    """What ``share`` of the observations between two looks at a histogram is not above; None where there are none.

    As Prometheus' histogram_quantile has it: even within a bucket, and the highest bound for what is beyond that.
    """
    before = dict(since)
    counts = [(bound, count - before.get(bound, 0.0)) for bound, count in now]
    total = counts[-1][1] if counts else 0.0
    if total <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in counts:
        if count >= rank and count > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _number(text: str) -> float | None:
    """None also for NaN, which is what a summary says of no observations."""
    try:
        number = float(text)
    except ValueError:
        return None
    # NaN alone is not itself.
    return number if number == number else None


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
