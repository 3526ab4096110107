"""What a look at one thing came to."""

from enum import Enum
from typing import NamedTuple


class Level(Enum):
    OK = "ok"
    WARNING = "warning"
    """The server runs, and not as somebody may think."""
    BROKEN = "broken"
    """The server does not start, or does not serve what it should."""


class Finding(NamedTuple):
    """``text`` is one line; so is ``remedy``, which says what to do where something is to be done."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, subject, text, remedy)


def broken(subject: str, text: str, remedy: str) -> Finding:
    return Finding(Level.BROKEN, subject, text, remedy)
