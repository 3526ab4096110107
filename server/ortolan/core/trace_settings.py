"""What is traced: the settings for all models, what single models have of their own, and changing either. Pure.

A value that a model does not have of its own is the one for all models, and where nobody changed that it is the
operator's. Names, texts of errors and what a change may say are Triton's (its trace extension); what Triton takes and
drops in silence, an unknown setting or level, is refused by name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ortolan.errors import InvalidArgument, Unsupported

ALL_MODELS = ""
"""The name under which the settings of all models are kept."""
TIMESTAMPS = "TIMESTAMPS"
TENSORS = "TENSORS"
LEVELS = (TIMESTAMPS, TENSORS)
OFF = "OFF"
MODE = "triton"
OPENTELEMETRY = "opentelemetry"

# Names of older Tritons.
_OLD_LEVELS = {"MIN": TIMESTAMPS, "MAX": TIMESTAMPS}
_READ_ONLY = {"trace_file": "trace file location", "trace_mode": "trace mode"}
_NUMBER = re.compile(r"-?[0-9]+")
# Longer than any number in range; Python refuses to read numbers of thousands of digits.
_MOST_DIGITS = 20
_LARGEST_COUNT = 2**31 - 1
_LARGEST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The settings that hold for one model, or for all without settings of their own. The defaults are Triton's."""

    level: tuple[str, ...] = ()
    """Out of ``LEVELS``, in their order; empty for OFF."""
    rate: int = 1000
    """Every so manieth request is traced; 0, which OpenTelemetry may have: only those whose caller traces them."""
    count: int = -1
    """How many requests will be traced yet; -1 for no end. Those whose caller traces them do not count."""
    log_frequency: int = 0
    """After how many traces another file is begun; 0 for never. Without meaning for OpenTelemetry."""
    file: str = ""
    """Where traces are written; without it nothing is."""
    mode: str = MODE
    """Whether traces are Triton's files or OpenTelemetry's spans; only the operator chooses that."""

    def as_answer(self) -> dict[str, list[str]]:
        """What clients are told, by Triton's names: texts all, of which only ``trace_level`` may have several."""
        return {
            "trace_level": list(self.level) or [OFF],
            "trace_rate": [str(self.rate)],
            "trace_count": [str(self.count)],
            "log_frequency": [str(self.log_frequency)],
            "trace_file": [self.file],
            "trace_mode": [self.mode],
        }


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What one model, or all of them together, has otherwise than what is above it; None where it has not."""

    level: tuple[str, ...] | None = None
    rate: int | None = None
    count: int | None = None
    log_frequency: int | None = None

    def over(self, base: TraceSettings) -> TraceSettings:
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(base, **{name: value for name, value in own.items() if value is not None})


_NOTHING = OwnSettings()


@dataclass(frozen=True, slots=True)
class TraceTable:
    """All the trace settings of a server."""

    operator: TraceSettings
    own: Mapping[str, OwnSettings] = field(default_factory=dict)
    """By the model's name; those for all models under ``ALL_MODELS``."""

    def of(self, model: str) -> TraceSettings:
        for_all = self.own.get(ALL_MODELS, _NOTHING).over(self.operator)
        return self.own.get(model, _NOTHING).over(for_all)

    def changed(self, model: str, change: Mapping[str, object]) -> "TraceTable":
        """The table after ``change`` of the settings of ``model``; see ``own_after``.

        Raises as that does, and InvalidArgument when any model's settings could not be followed then.
        """
        after = own_after(self.own.get(model, _NOTHING), change)
        rest = {name: own for name, own in self.own.items() if name != model}
        table = TraceTable(self.operator, rest if after == _NOTHING else {**rest, model: after})
        for name in table.own:
            require_traceable(table.of(name))
        return table

    def without_others(self, knows: Callable[[str], bool]) -> "TraceTable":
        """The table with what all models have, and of single ones those that ``knows`` says are there."""
        own = {name: each for name, each in self.own.items() if name == ALL_MODELS or knows(name)}
        return self if len(own) == len(self.own) else TraceTable(self.operator, own)


def own_after(own: OwnSettings, change: Mapping[str, object]) -> OwnSettings:
    """``own`` after ``change``: for each name a text, a list of texts, or None or an empty list to have none any more.

    Raises Unsupported for what clients may not change and InvalidArgument for what cannot be understood.
    """
    for name in change:
        if name in _READ_ONLY:
            raise Unsupported(f"{_READ_ONLY[name]} can not be updated through network protocol")
        if name not in _READERS:
            raise InvalidArgument(f"unknown trace setting '{name[:64]}'; there are {', '.join(_READERS)}")
    values: dict[str, Any] = {_FIELDS[name]: _value(name, _texts(name, given)) for name, given in change.items()}
    return replace(own, **values)


def require_traceable(settings: TraceSettings) -> None:
    """Raises InvalidArgument where tracing is on and could trace nothing."""
    if settings.level and settings.rate == 0 and settings.mode == MODE:
        raise InvalidArgument("Attempting to set invalid trace setting :sample rate must be non-zero")


def _texts(name: str, given: object) -> Sequence[str]:
    if given is None:
        return ()
    texts: list[Any] = given if isinstance(given, list) else [given]
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgument(f"'{name}' expects text, or null for none of its own, got {text!r:.64}")
    return texts


def _value(name: str, texts: Sequence[str]) -> object:
    return _READERS[name](name, texts) if texts else None


def read_level(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The levels that ``texts`` name, for the setting ``name``. Raises InvalidArgument for others."""
    chosen = [_OLD_LEVELS.get(text, text) for text in texts]
    for level, text in zip(chosen, texts, strict=True):
        if level not in (OFF, *LEVELS):
            raise InvalidArgument(f"unknown level '{text[:64]}' for '{name}'; there are {OFF}, {', '.join(LEVELS)}")
    if OFF in chosen and len(chosen) > 1:
        raise InvalidArgument("Expect only one trace level 'OFF' is specified")
    return tuple(level for level in LEVELS if level in chosen)


def read_count(name: str, texts: Sequence[str]) -> int:
    """A number from -1 on. Raises InvalidArgument for others."""
    number, text = _number(name, texts)
    if number < -1:
        raise InvalidArgument(f"Unable to parse '{name}'. Expecting value >= -1, got: {text}")
    return _within(name, number, -1, _LARGEST_COUNT, text)


def read_frequency(name: str, texts: Sequence[str]) -> int:
    """A number from 0 on. Raises InvalidArgument for others."""
    number, text = _number(name, texts)
    return _within(name, number, 0, _LARGEST, text)


def _number(name: str, texts: Sequence[str]) -> tuple[int, str]:
    """The number, and its text for messages."""
    if len(texts) != 1:
        raise InvalidArgument(f"expect only 1 value for '{name}'")
    text = texts[0]
    if not _NUMBER.fullmatch(text):
        raise InvalidArgument(f"Unable to parse '{name}', got: {text[:64]}")
    return int(text[:_MOST_DIGITS]), text[:64]


def _within(name: str, number: int, lowest: int, largest: int, text: str) -> int:
    if not lowest <= number <= largest:
        raise InvalidArgument(f"Unable to parse '{name}', value is out of range [ {lowest}, {largest} ], got: {text}")
    return number


_FIELDS = {
    "trace_level": "level",
    "trace_rate": "rate",
    "trace_count": "count",
    "log_frequency": "log_frequency",
}
_READERS = {
    "trace_level": read_level,
    "trace_rate": read_frequency,
    "trace_count": read_count,
    "log_frequency": read_frequency,
}
