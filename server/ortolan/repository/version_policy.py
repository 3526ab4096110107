"""Which of a model's versions are to be served: latest, all or specific. Pure."""

from collections.abc import Iterable
from typing import assert_never

from ortolan.repository.model_config import AllVersions, LatestVersions, SpecificVersions, VersionPolicy


def select(policy: VersionPolicy, available: Iterable[int]) -> tuple[int, ...]:
    """The versions of ``available`` that ``policy`` serves, ascending; those that are not there are left out."""
    numbers = sorted(set(available))
    match policy:
        case LatestVersions(count):
            return tuple(numbers[-count:]) if count > 0 else ()
        case AllVersions():
            return tuple(numbers)
        case SpecificVersions(wanted):
            return tuple(number for number in numbers if number in wanted)
    assert_never(policy)
