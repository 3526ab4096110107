import pytest

from ortolan.core.merged_index import merged_index, states_of
from ortolan.core.model_records import IndexEntry as Entry

# the indexes of two processes, and what clients are told
INDEXES = [
    ([Entry("m", "1", "READY")], [Entry("m", "1", "READY")], [Entry("m", "1", "READY")]),
    # what is not so everywhere is not so
    (
        [Entry("m", "1", "READY")],
        [Entry("m", "1", "UNAVAILABLE", "no room")],
        [Entry("m", "1", "UNAVAILABLE", "no room")],
    ),
    ([Entry("m", "1", "LOADING")], [Entry("m", "1", "READY")], [Entry("m", "1", "LOADING")]),
    # one process has seen no version yet
    ([Entry("m")], [Entry("m", "1", "READY")], [Entry("m", "1", "READY")]),
    # versions by number
    (
        [Entry("m", "10", "READY"), Entry("a")],
        [Entry("m", "9", "READY")],
        [Entry("a"), Entry("m", "9", "READY"), Entry("m", "10", "READY")],
    ),
]


@pytest.mark.parametrize(("one", "other", "told"), INDEXES)
def test_an_index_tells_of_each_version_the_state_that_is_worst(
    one: list[Entry], other: list[Entry], told: list[Entry]
) -> None:
    assert merged_index([one, other]) == merged_index([other, one]) == told


def test_versions_are_counted_by_the_state_that_is_worst() -> None:
    one = [["m", "1", "READY"], ["m", "2", "READY"], ["gone", "", ""]]
    other = [["m", "1", "LOADING"], ["m", "2", "READY"]]
    assert states_of([one, other]) == {"LOADING": 1, "READY": 1}
