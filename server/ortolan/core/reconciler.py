"""(wanted, present) → the next load or unload of one model, availability first. Pure.

New and changed versions are loaded before old ones are unloaded, and an old version stays for as long as no wanted one
is ready: a failed load never takes away what served. The rule is TensorFlow Serving's availability-preserving policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ortolan.core.version_state import VersionState

Fingerprint = object


@dataclass(frozen=True, slots=True)
class PresentVersion:
    """What there is of one version: the files it was loaded from, and those that failed to load."""

    state: VersionState
    fingerprint: Fingerprint = None
    failed_fingerprint: Fingerprint = None


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version, beside the one of the same number if there is one."""

    number: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this version."""

    number: int


def next_action(wanted: Mapping[int, Fingerprint], present: Mapping[int, PresentVersion]) -> Load | Unload | None:
    """The next step from ``present`` towards ``wanted`` (version number → fingerprint of its files); None: arrived."""
    for number in sorted(wanted):
        if _needs_loading(wanted[number], present.get(number)):
            return Load(number)
    superfluous = [n for n in sorted(present) if n not in wanted and present[n].state is VersionState.READY]
    if superfluous and _can_spare(wanted, present):
        return Unload(superfluous[0])
    return None


def _needs_loading(fingerprint: Fingerprint, version: PresentVersion | None) -> bool:
    if version is None:
        return True
    if version.failed_fingerprint is not None and version.failed_fingerprint == fingerprint:
        return False
    return version.state is not VersionState.READY or version.fingerprint != fingerprint


def _can_spare(wanted: Mapping[int, Fingerprint], present: Mapping[int, PresentVersion]) -> bool:
    if not wanted:
        return True
    return any(number in present and present[number].state is VersionState.READY for number in wanted)
