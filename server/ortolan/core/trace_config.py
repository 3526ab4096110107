"""``--trace-config``: its texts, ``[MODE,]SETTING=VALUE`` as Triton has them, as trace settings. Pure."""

from collections.abc import Iterable

from ortolan.core.trace_settings import (
    MODE,
    TraceSettings,
    read_count,
    read_frequency,
    read_level,
    require_traceable,
)
from ortolan.errors import InvalidArgument, StartupError

FLAG = "--trace-config"
_OTHER_MODE = "opentelemetry"
_SETTINGS = ("level", "rate", "count", "mode", f"{MODE},file", f"{MODE},log-frequency")


def parse_trace_config(texts: Iterable[str]) -> TraceSettings:
    """The settings that ``texts`` give; a later one beats an earlier one, but levels add up.

    Raises StartupError for what is not of the form, not known, or not there yet.
    """
    given: dict[str, list[str]] = {}
    for text in texts:
        name, value = _parted(text)
        given.setdefault(name, []).append(value)
    _refuse_other_modes(given)
    try:
        settings = TraceSettings(
            level=read_level("level", [level.upper() for level in given.get("level", ["OFF"])]),
            rate=read_frequency("rate", given.get("rate", ["1000"])[-1:]),
            count=read_count("count", given.get("count", ["-1"])[-1:]),
            log_frequency=read_frequency("log-frequency", given.get(f"{MODE},log-frequency", ["0"])[-1:]),
            file=given.get(f"{MODE},file", [""])[-1],
        )
        require_traceable(settings)
    except InvalidArgument as error:
        raise StartupError(f"{FLAG}: {error}") from None
    return settings


def _parted(text: str) -> tuple[str, str]:
    """The setting, with its mode before it where it has one, and the value."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise StartupError(f"{FLAG}: expected [MODE,]SETTING=VALUE, got '{text}'")
    name = ",".join(part.strip().lower() for part in name.split(","))
    if name not in _SETTINGS and not name.startswith(f"{_OTHER_MODE},"):
        raise StartupError(f"{FLAG}: unknown setting '{name}'; there are {', '.join(_SETTINGS)}")
    return name, value


def _refuse_other_modes(given: dict[str, list[str]]) -> None:
    mode = given.get("mode", [MODE])[-1].lower()
    if mode == _OTHER_MODE or any(name.startswith(f"{_OTHER_MODE},") for name in given):
        raise StartupError(
            f"{FLAG}: OpenTelemetry is not supported yet; use mode={MODE}, which writes traces to a file "
            f"({FLAG} {MODE},file=PATH), or leave the flag out"
        )
    if mode != MODE:
        raise StartupError(f"{FLAG}: unknown mode '{mode}'; there is {MODE}")
