"""The states of a model version and their legal transitions, as a table. Pure.

    UNKNOWN ──▶ LOADING ──▶ READY ──▶ UNLOADING ──▶ UNAVAILABLE
                  │  ▲        │                        │
                  │  └────────┴── (loaded again) ◀─────┘
                  └──▶ UNAVAILABLE (the load failed)

A version that is loaded again while it is READY stays READY: the new one is made beside it and takes its place.
"""

import enum


class VersionState(enum.Enum):
    """The values are the words of the repository index."""

    UNKNOWN = "UNKNOWN"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


LEGAL: frozenset[tuple[VersionState, VersionState]] = frozenset(
    {
        (VersionState.UNKNOWN, VersionState.LOADING),
        (VersionState.UNAVAILABLE, VersionState.LOADING),
        (VersionState.UNLOADING, VersionState.LOADING),
        (VersionState.LOADING, VersionState.READY),
        (VersionState.LOADING, VersionState.UNAVAILABLE),
        (VersionState.READY, VersionState.UNLOADING),
        (VersionState.UNLOADING, VersionState.UNAVAILABLE),
    }
)


def advanced(current: VersionState, to: VersionState) -> VersionState:
    """``to``, when a version may go there from ``current``; ValueError otherwise, which is a bug of the caller."""
    if (current, to) not in LEGAL:
        raise ValueError(f"a version cannot go from {current.value} to {to.value}")
    return to
