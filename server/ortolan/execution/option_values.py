"""What the values of options may be: a check gives the text for ONNX Runtime, or says what it expects. Pure."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping

from ortolan.errors import InvalidArgument

Check = Callable[[str], str]
"""The text for ONNX Runtime; ValueError, saying what is expected, for a value that is none."""

_TRUE = ("1", "true", "True")
_FALSE = ("0", "false", "False")
_ARENAS = re.compile(r"(cpu|gpu):\d+(;(cpu|gpu):\d+)*")


def integer(lowest: int, highest: int) -> Check:
    def check(value: str) -> str:
        try:
            number = int(value)
        except ValueError:
            raise ValueError(f"a whole number from {lowest} to {highest}") from None
        if not lowest <= number <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return str(number)

    return check


def choice(*values: str) -> Check:
    def check(value: str) -> str:
        if value not in values:
            raise ValueError("one of " + ", ".join(values))
        return value

    return check


def named(*names: str) -> Check:
    """One of ``names``, or its number from 0 on, as Triton has it; ONNX Runtime knows the names only."""

    def check(value: str) -> str:
        if value in names:
            return value
        numbers = [str(number) for number in range(len(names))]
        if value not in numbers:
            raise ValueError("one of " + ", ".join((*numbers, *names)))
        return names[int(value)]

    return check


def truth(true: str, false: str) -> Check:
    """A yes or no in any of ONNX Runtime's spellings, of which each provider takes its own: ``true`` or ``false``."""

    def check(value: str) -> str:
        if value not in _TRUE + _FALSE:
            raise ValueError("one of " + ", ".join(text for pair in zip(_FALSE, _TRUE, strict=True) for text in pair))
        return true if value in _TRUE else false

    return check


def text(value: str) -> str:
    if not value:
        raise ValueError("a text that is not empty")
    return value


def seconds(value: str) -> str:
    return _number(value, 1e9, "a number of seconds, 0 or more")


def tolerance(value: str) -> str:
    return _number(value, float("inf"), "a number, 0 or more")


def arenas(value: str) -> str:
    # The runtime looks at this when it runs, so that a wrong one would fail every request.
    if not _ARENAS.fullmatch(value):
        raise ValueError("devices such as cpu:0 or cpu:0;gpu:0")
    return value


FLAG = choice("0", "1")
COUNT = integer(0, 2**63 - 1)


def checked(key: str, value: str, table: Mapping[str, Check], what: str) -> str:
    """What ``table``'s check of ``key`` makes of ``value``; InvalidArgument for a key or value that it refuses."""
    if key not in table:
        raise InvalidArgument(unknown_text(key, table, what))
    try:
        return table[key](value)
    except ValueError as error:
        raise InvalidArgument(f"{what} '{key}' expects {error}, got '{value}'") from None


def unknown_text(key: str, known: Collection[str], what: str) -> str:
    """That ``key`` is no ``what``, with the nearest of the ``known``."""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown {what} '{key}'{hint}"


def _number(value: str, below: float, expected: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < below:
        raise ValueError(expected)
    return str(number)
