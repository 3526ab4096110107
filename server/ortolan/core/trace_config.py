"""``--trace-config``: its texts, ``[MODE,]SETTING=VALUE`` as Triton has them, as trace settings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ortolan.core.trace_settings import (
    MODE,
    OPENTELEMETRY,
    TraceSettings,
    read_count,
    read_frequency,
    read_level,
    require_traceable,
)
from ortolan.errors import InvalidArgument, StartupError

FLAG = "--trace-config"
URL, RESOURCE = "url", "resource"
QUEUE_SIZE, DELAY, BATCH_SIZE = "bsp_max_queue_size", "bsp_schedule_delay", "bsp_max_export_batch_size"
_MODES = (MODE, OPENTELEMETRY)
_OF_ANY_MODE = ("level", "rate", "count", "mode")
_OF_MODE = {MODE: ("file", "log-frequency"), OPENTELEMETRY: (URL, RESOURCE, QUEUE_SIZE, DELAY, BATCH_SIZE)}
_SETTINGS = (*_OF_ANY_MODE, *(f"{mode},{name}" for mode, names in _OF_MODE.items() for name in names))


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """All that the flag says."""

    settings: TraceSettings
    opentelemetry: Mapping[str, Sequence[str]]
    """The settings of OpenTelemetry that were given, without their mode: each with its values."""


def parse_trace_config(texts: Iterable[str]) -> TraceConfig:
    """What ``texts`` give; a later one beats an earlier one, but levels and resources add up.

    Raises StartupError for what is not of the form, not known, or of the mode that is not chosen.
    """
    given: dict[str, list[str]] = {}
    for text in texts:
        name, value = _parted(text)
        given.setdefault(name, []).append(value)
    mode = _mode(given)
    try:
        settings = TraceSettings(
            level=read_level("level", [level.upper() for level in given.get("level", ["OFF"])]),
            rate=read_frequency("rate", given.get("rate", ["1000"])[-1:]),
            count=read_count("count", given.get("count", ["-1"])[-1:]),
            log_frequency=read_frequency("log-frequency", given.get(f"{MODE},log-frequency", ["0"])[-1:]),
            file=given.get(f"{MODE},file", [""])[-1],
            mode=mode,
        )
        require_traceable(settings)
    except InvalidArgument as error:
        raise StartupError(f"{FLAG}: {error}") from None
    start = f"{OPENTELEMETRY},"
    return TraceConfig(
        settings, {name.removeprefix(start): values for name, values in given.items() if name.startswith(start)}
    )


def _parted(text: str) -> tuple[str, str]:
    """The setting, with its mode before it where it has one, and the value."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise StartupError(f"{FLAG}: expected [MODE,]SETTING=VALUE, got '{text}'")
    name = ",".join(part.strip().lower() for part in name.split(","))
    if name not in _SETTINGS:
        raise StartupError(f"{FLAG}: unknown setting '{name}'; there are {', '.join(_SETTINGS)}")
    return name, value


def _mode(given: Mapping[str, Sequence[str]]) -> str:
    mode = given.get("mode", [MODE])[-1].lower()
    if mode not in _MODES:
        raise StartupError(f"{FLAG}: unknown mode '{mode}'; there are {' and '.join(_MODES)}")
    for name in given:
        other = name.partition(",")[0]
        if other in _MODES and other != mode:
            raise StartupError(
                f"{FLAG}: '{name}' belongs to mode={other}, and the mode is {mode}: there is one at a time. Add "
                f"{FLAG} mode={other}, or leave '{name}' out"
            )
    return mode
