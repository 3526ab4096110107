"""Which states a version may go through."""

from itertools import pairwise

import pytest

from ortolan.core.version_state import LEGAL, VersionState, advanced

UNKNOWN, LOADING, READY, UNLOADING, UNAVAILABLE = VersionState


@pytest.mark.parametrize(
    "life",
    [
        [UNKNOWN, LOADING, READY, UNLOADING, UNAVAILABLE],
        [UNKNOWN, LOADING, UNAVAILABLE],  # the load failed
        [UNKNOWN, LOADING, UNAVAILABLE, LOADING, READY],  # and was tried again
        [LOADING, READY, UNLOADING, LOADING, READY],  # wanted again before it was gone
        [READY, UNLOADING, UNAVAILABLE, LOADING],
    ],
)
def test_a_version_may_live_like_this(life: list[VersionState]) -> None:
    for current, to in pairwise(life):
        assert advanced(current, to) is to


@pytest.mark.parametrize("current", VersionState)
@pytest.mark.parametrize("to", VersionState)
def test_every_other_way_is_a_bug(current: VersionState, to: VersionState) -> None:
    if (current, to) in LEGAL:
        assert advanced(current, to) is to
    else:
        with pytest.raises(ValueError, match=f"a version cannot go from {current.value} to {to.value}"):
            advanced(current, to)


def test_nothing_becomes_unknown_again_and_nothing_stays_where_it_is() -> None:
    assert all(to is not UNKNOWN and current is not to for current, to in LEGAL)


def test_only_a_load_makes_ready_and_only_what_was_ready_is_unloaded() -> None:
    assert {current for current, to in LEGAL if to is READY} == {LOADING}
    assert {current for current, to in LEGAL if to is UNLOADING} == {READY}


def test_the_words_are_those_of_the_repository_index() -> None:
    assert [state.value for state in VersionState] == ["UNKNOWN", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"]
