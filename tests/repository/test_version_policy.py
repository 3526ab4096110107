import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.repository.model_config import AllVersions, LatestVersions, SpecificVersions, VersionPolicy
from ortolan.repository.version_policy import select


@pytest.mark.parametrize(
    ("policy", "available", "expected"),
    [
        (LatestVersions(), [1, 2, 10], (10,)),  # greatest by number, not by text
        (LatestVersions(2), [10, 9, 1], (9, 10)),  # ascending, whatever order they came in
        (LatestVersions(5), [1, 2], (1, 2)),  # fewer than asked for
        (LatestVersions(), [], ()),
        (AllVersions(), [3, 1, 2], (1, 2, 3)),
        (AllVersions(), [], ()),
        (SpecificVersions((2, 7)), [1, 2, 3], (2,)),  # 7 is not there
        (SpecificVersions((3, 1)), [1, 2, 3], (1, 3)),
        (SpecificVersions((9,)), [1], ()),
    ],
)
def test_policies_select_ascending(policy: VersionPolicy, available: list[int], expected: tuple[int, ...]) -> None:
    assert select(policy, available) == expected


@given(st.integers(1, 10), st.sets(st.integers(1, 100)))
def test_the_latest_are_the_greatest(count: int, available: set[int]) -> None:
    chosen = select(LatestVersions(count), available)
    assert list(chosen) == sorted(available)[-count:]
