"""The indexes of several processes as one."""

import pytest

from ortolan.core.merged_index import states_of


@pytest.mark.parametrize(
    ("told", "states"),
    [
        ([[("a", "1", "READY"), ("a", "2", "READY")]], {"READY": 2}),
        ([[("a", "1", "READY")], [("a", "1", "LOADING")]], {"LOADING": 1}),  # as it is where it is worst
        ([[("a", "", "UNAVAILABLE")]], {"UNAVAILABLE": 1}),  # a configuration that is none: no version is known
        ([[("a", "", "UNAVAILABLE"), ("a", "1", "READY")]], {"READY": 1}),  # one process has not seen any yet
        ([[("a", "", "")]], {}),  # there, and nobody asked for it
    ],
)
def test_versions_are_counted_by_state(told: list[list[tuple[str, str, str]]], states: dict[str, int]) -> None:
    assert states_of(told) == states
