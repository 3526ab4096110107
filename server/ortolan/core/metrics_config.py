"""``--metrics-config``: its texts, ``SETTING=VALUE`` as in Triton, as what the metrics are to have. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from ortolan.errors import StartupError

FLAG = "--metrics-config"
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Triton's."""
_SWITCHES = ("counter_latencies", "histogram_latencies", "summary_latencies")
_QUANTILES = "summary_quantiles"
_SETTINGS = (*_SWITCHES, _QUANTILES)
_VALUES = dict.fromkeys(("true", "on", "1"), True) | dict.fromkeys(("false", "off", "0"), False)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Which of Triton's latencies are told, and how; ours are always."""

    counters: bool = True
    histograms: bool = False
    summaries: bool = False
    quantiles: tuple[float, ...] = QUANTILES


def parse_metrics_config(texts: Iterable[str]) -> MetricsConfig:
    """Of texts that set the same the last one holds. Raises StartupError for what is not of the form or not known."""
    config = MetricsConfig()
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise StartupError(f"{FLAG}: expected SETTING=VALUE, got '{text}'")
        if name == _QUANTILES:
            config = replace(config, quantiles=_quantiles(value))
        elif name == _SWITCHES[0]:
            config = replace(config, counters=_switch(name, value))
        elif name == _SWITCHES[1]:
            config = replace(config, histograms=_switch(name, value))
        elif name == _SWITCHES[2]:
            config = replace(config, summaries=_switch(name, value))
        else:
            near = get_close_matches(name, _SETTINGS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise StartupError(f"{FLAG}: unknown setting '{name}'; there are {', '.join(_SETTINGS)}{hint}")
    return config


def _switch(name: str, value: str) -> bool:
    if value.lower() not in _VALUES:
        raise StartupError(f"{FLAG}: {name} must be true or false, got '{value}'")
    return _VALUES[value.lower()]


def _quantiles(value: str) -> tuple[float, ...]:
    """``0.5:0.05,0.9:0.01``: what is behind the colons, Triton's allowed errors, is taken and has no effect."""
    found = []
    for pair in value.split(","):
        quantile, _, error = pair.partition(":")
        try:
            found.append((float(quantile), float(error or 0)))
        except ValueError:
            found.append((-1.0, 0.0))
    if any(not 0 <= number <= 1 for pair in found for number in pair):
        raise StartupError(
            f"{FLAG}: {_QUANTILES} must be QUANTILE:ERROR,QUANTILE:ERROR… of numbers from 0 to 1, got '{value}'"
        )
    return tuple(quantile for quantile, _ in found)
