"""Prometheus' text format 0.0.4: families of samples as lines. Pure.

It is written here because Triton's counters carry no ``_total``, which prometheus_client would add to the names in the
TYPE lines, so that the types would be those of metrics that are not there. OpenMetrics demands that ending, so that the
page is in this format whatever a scraper would rather have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["counter", "gauge", "histogram", "summary"]
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: ``samples`` are its lines, and without any it is left out. Its explanation is one line of words."""

    name: str
    kind: Kind
    explanation: str
    samples: Iterable[str]


def label_text(labels: Mapping[str, str]) -> str:
    """``model="m",version="1"``; values may have any characters."""
    return ",".join(f'{key}="{content.translate(_ESCAPES)}"' for key, content in labels.items())


def sample(name: str, value: float, labels: str = "") -> str:
    """One line; ``labels`` as ``label_text`` has them. Python writes numbers as Prometheus reads them, but for NaN."""
    text = "NaN" if isnan(value) else value
    return f"{name}{{{labels}}} {text}\n" if labels else f"{name} {text}\n"


def bound_texts(bounds: Iterable[float]) -> tuple[str, ...]:
    """Upper bounds as the values of ``le``: always with a point, as Prometheus 3 writes them."""
    return tuple(repr(float(bound)) for bound in bounds)


def histogram(name: str, labels: str, bounds: Sequence[str], counts: Sequence[int], total: float) -> str:
    """The lines of one histogram: ``counts`` has one more than ``bounds``, for what is beyond; ``total`` is the sum."""
    start = f"{name}_bucket{{{labels},le=" if labels else f"{name}_bucket{{le="
    lines, below = [], 0
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        below += count
        lines.append(f'{start}"{bound}"}} {below}\n')
    return "".join((*lines, sample(f"{name}_sum", total, labels), sample(f"{name}_count", below, labels)))


def summary(name: str, labels: str, quantiles: Sequence[tuple[float, float]], count: int, total: float) -> str:
    """The lines of one summary: pairs of a share and the value that it does not exceed."""
    lines = [sample(name, value, f'{labels},quantile="{share}"') for share, value in quantiles]
    return "".join((*lines, sample(f"{name}_sum", total, labels), sample(f"{name}_count", count, labels)))


def lines_of(families: Iterable[Family]) -> Iterator[str]:
    """The page, some lines at a time."""
    for family in families:
        heading = f"# HELP {family.name} {family.explanation}\n# TYPE {family.name} {family.kind}\n"
        for text in family.samples:
            yield heading + text
            heading = ""
