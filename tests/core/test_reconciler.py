"""The next load or unload, case by case; and where a chain of them ends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.reconciler import Load, PresentVersion, Unload, next_action
from ortolan.core.version_state import VersionState

LOADING, READY, UNLOADING, UNAVAILABLE = list(VersionState)[1:]

Wanted = dict[int, str]
Present = dict[int, PresentVersion]


def ready(fingerprint: str, failed: str | None = None) -> PresentVersion:
    return PresentVersion(READY, fingerprint, failed)


def gone(failed: str | None = None) -> PresentVersion:
    return PresentVersion(UNAVAILABLE, None, failed)


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [
        ({}, {}, None),
        ({1: "a"}, {}, Load(1)),
        ({2: "b", 1: "a"}, {}, Load(1)),  # the lower number first
        ({1: "a"}, {1: ready("a")}, None),
        ({1: "b"}, {1: ready("a")}, Load(1)),  # its files changed: loaded beside the old one
        ({1: "a"}, {1: gone()}, Load(1)),  # was unloaded
        ({1: "a"}, {1: PresentVersion(UNLOADING)}, Load(1)),  # wanted again before it was gone
        ({1: "a"}, {1: gone("a")}, None),  # these files failed already
        ({1: "b"}, {1: gone("a")}, Load(1)),  # but these have not been tried
        ({1: "b"}, {1: ready("a", "b")}, None),  # the newer files failed: the old ones serve
        ({1: "c"}, {1: ready("a", "b")}, Load(1)),
        ({1: "a"}, {1: ready("a", "b")}, None),  # the old files are back
        ({}, {1: ready("a")}, Unload(1)),
        ({}, {1: ready("a"), 2: ready("b")}, Unload(1)),
        ({}, {1: gone("a"), 2: PresentVersion(UNLOADING)}, None),
        ({2: "b"}, {1: ready("a")}, Load(2)),  # first the new one,
        ({2: "b"}, {1: ready("a"), 2: ready("b")}, Unload(1)),  # then away with the old one
        ({2: "b"}, {1: ready("a"), 2: gone("b")}, None),  # unless the new one failed: availability first
        ({2: "b", 3: "c"}, {1: ready("a"), 2: gone("b"), 3: ready("c")}, Unload(1)),  # one that serves is enough
        ({2: "b"}, {1: ready("a"), 2: ready("x", "b")}, Unload(1)),  # an older file of 2 serves in its place
        ({2: "b"}, {1: gone("a"), 2: ready("b")}, None),
    ],
)
def test_the_next_step(wanted: Wanted, present: Present, expected: Load | Unload | None) -> None:
    assert next_action(wanted, present) == expected


def after(action: Load | Unload, wanted: Wanted, present: Present, broken: set[str]) -> Present:
    """What is there once ``action`` was performed, where files in ``broken`` cannot be loaded."""
    if isinstance(action, Unload):
        assert present[action.number].state is READY
        return present | {action.number: gone()}
    fingerprint, before = wanted[action.number], present.get(action.number)
    if fingerprint not in broken:
        return present | {action.number: ready(fingerprint)}
    if before is not None and before.state is READY:
        return present | {action.number: replace(before, failed_fingerprint=fingerprint)}
    return present | {action.number: gone(fingerprint)}


def ready_numbers(present: Present) -> set[int]:
    return {number for number, version in present.items() if version.state is READY}


numbers = st.integers(1, 4)
fingerprints = st.sampled_from("abcd")
versions = st.one_of(
    st.builds(ready, fingerprints, st.none() | fingerprints),
    st.builds(gone, st.none() | fingerprints),
    st.just(PresentVersion(UNLOADING)),
)


@given(st.dictionaries(numbers, fingerprints), st.dictionaries(numbers, versions), st.sets(fingerprints))
def test_step_by_step_it_ends_and_never_leaves_nothing_that_serves(
    wanted: Wanted, present: Present, broken: set[str]
) -> None:
    served_before = bool(ready_numbers(present))
    steps = 0
    while action := next_action(wanted, present):
        present = after(action, wanted, present, broken)
        steps += 1
        assert steps <= 2 * 4  # each version is loaded once and unloaded once at most
        if wanted and served_before:
            assert ready_numbers(present)
    for number, fingerprint in wanted.items():
        version = present[number]
        assert version.failed_fingerprint == fingerprint or (version.state, version.fingerprint) == (READY, fingerprint)
    if not wanted or ready_numbers(present) & wanted.keys():
        assert ready_numbers(present) <= wanted.keys()


@given(st.dictionaries(numbers, fingerprints, min_size=1), st.dictionaries(numbers, versions))
def test_when_every_load_works_exactly_what_is_wanted_serves(wanted: Wanted, present: Present) -> None:
    present = {number: replace(version, failed_fingerprint=None) for number, version in present.items()}
    while action := next_action(wanted, present):
        present = after(action, wanted, present, set())
    assert {n: v.fingerprint for n, v in present.items() if v.state is READY} == wanted
