"""What is logged, and changing it while the server runs."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ortolan.errors import InvalidArgument, Unsupported

_log = logging.getLogger(__name__)

FORMATS = ("default", "ISO8601", "json")
"""Triton's two names for lines of text, which both begin with an ISO 8601 time here, and one JSON object a line."""
_SWITCHES = ("log_info", "log_warning", "log_error")
_MOST_VERBOSE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Triton's names, and what it starts with."""

    log_file: str = ""
    """Where lines go; "" for standard error."""
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    """Debugging lines: 1 for ours, 2 for those of the libraries too."""
    log_format: str = "default"
    """One of ``FORMATS``."""

    def as_answer(self) -> dict[str, bool | int | str]:
        """What clients are told, in Triton's order."""
        return asdict(self)


class LogControl:
    """The log settings as they are now. Lives on the event loop."""

    def __init__(self, settings: LogSettings, apply: Callable[[LogSettings], None] = lambda _: None) -> None:
        """``apply`` makes the process log as the settings say that it is called with; it does so now already."""
        self.settings = settings
        self._apply = apply

    def change(self, change: Mapping[str, object]) -> None:
        """Log otherwise from now on. Raises as ``changed`` does, and changes nothing then."""
        after = changed(self.settings, change)
        if after != self.settings:
            # Before it takes effect: to switch lines off in silence would be to cover tracks.
            _log.log(_shown_level(self.settings), "log settings changed to %s", after)
            self._apply(after)
            self.settings = after


def _shown_level(settings: LogSettings) -> int:
    """The highest level that is on, so that no earlier change hides a later one; debugging where all are off."""
    levels = {logging.INFO: settings.log_info, logging.WARNING: settings.log_warning, logging.ERROR: settings.log_error}
    return next((level for level, shown in levels.items() if shown), logging.DEBUG)


def changed(settings: LogSettings, change: Mapping[str, object]) -> LogSettings:
    """``settings`` after ``change``, in which None stands for what stays as it is.

    Raises Unsupported for what clients may not change and InvalidArgument for names and values that are not known;
    Triton drops unknown names in silence.
    """
    known = asdict(settings)
    for name in change:
        if name not in known:
            raise InvalidArgument(f"unknown log setting '{name[:64]}'; there are {', '.join(known)}")
    given: dict[str, Any] = {name: value for name, value in change.items() if value is not None}
    if "log_file" in given:
        raise Unsupported("log file location can not be updated through network protocol")
    for name in _SWITCHES:
        if not isinstance(given.get(name, True), bool):
            raise InvalidArgument(f"expect boolean for '{name}', got {given[name]!r:.64}")
    _check_verbosity(given.get("log_verbose_level", 0))
    _check_format(given.get("log_format", FORMATS[0]))
    return replace(settings, **given)


def _check_verbosity(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_VERBOSE:
        raise InvalidArgument(f"expect int32 for 'log_verbose_level', 0 or more, got {value!r:.64}")


def _check_format(value: object) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(f"expect string for 'log_format', got {value!r:.64}")
    if value not in FORMATS:
        raise InvalidArgument(f"invalid argument for log_format, got: {value[:64]}; there are {', '.join(FORMATS)}")
