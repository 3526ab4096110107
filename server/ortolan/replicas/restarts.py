"""How long to wait before a process that ended is begun anew. Pure."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A process that served so long did not end because of how it began."""


def next_pause_s(pause_s: float, lived_s: float) -> float:
    """The pause after one of ``pause_s`` (0 for none yet), when what was begun then lived for ``lived_s``."""
    if lived_s >= STEADY_S:
        return FIRST_PAUSE_S
    return min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))
