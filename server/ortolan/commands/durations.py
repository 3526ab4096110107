"""Durations, as people write them behind flags."""

from ortolan.errors import StartupError

_LONGEST_S = 3600.0


def seconds(flag: str, text: str, least: float = 0.0) -> float:
    """Raises StartupError naming ``flag`` for what is no number of seconds, or fewer than ``least``."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= _LONGEST_S:
        raise StartupError(f"{flag}: expected seconds, from {least:g} to {_LONGEST_S:g}, got {text!r}")
    return value
