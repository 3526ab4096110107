import pytest

from ortolan.replicas.restarts import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, next_pause_s


@pytest.mark.parametrize(
    ("pause_s", "lived_s", "expected"),
    [
        (0, 0, FIRST_PAUSE_S),  # the first end
        (FIRST_PAUSE_S, 1, 2 * FIRST_PAUSE_S),  # again at once
        (LONGEST_PAUSE_S, 1, LONGEST_PAUSE_S),  # it never serves: the others must not suffer from its starts
        (LONGEST_PAUSE_S, STEADY_S, FIRST_PAUSE_S),  # it served for long
    ],
)
def test_pauses_grow_while_processes_end_early(pause_s: float, lived_s: float, expected: float) -> None:
    assert next_pause_s(pause_s, lived_s) == expected
