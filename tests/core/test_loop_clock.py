"""What a thread waited for a core, out of files like those in /proc."""

import time
from pathlib import Path

import pytest

from ortolan.core.loop_clock import LoopClock

S = 10**9


def told(thread: Path, waited_ns: int, given: int, taken: int) -> Path:
    (thread / "schedstat").write_text(f"5000000000 {waited_ns} 77\n")
    (thread / "status").write_text(
        f"Name:\tpython\nvoluntary_ctxt_switches:\t{given}\nnonvoluntary_ctxt_switches:\t{taken}\n"
    )
    return thread


def waited_s(clock: LoopClock) -> float:
    """Beyond what the thread ran."""
    return (clock.occupied_ns() - time.thread_time_ns()) / S


# switches that the thread made, and that were made to it, while it waited for ten seconds; and what counts of that
CASES = [
    # each time that it woke
    (100, 0, 0.0),
    # each time in the middle of its work
    (0, 100, 10.0),
    (75, 25, 2.5),
    (0, 0, 0.0),
]


@pytest.mark.parametrize(("given", "taken", "counted_s"), CASES)
def test_of_waiting_counts_what_was_in_the_middle_of_work(
    tmp_path: Path, given: int, taken: int, counted_s: float
) -> None:
    clock = LoopClock(told(tmp_path, 3 * S, 50, 50))
    assert waited_s(clock) == pytest.approx(0, abs=0.1)
    told(tmp_path, 13 * S, 50 + given, 50 + taken)
    assert waited_s(clock) == pytest.approx(counted_s, abs=0.1)
    assert waited_s(clock) == pytest.approx(counted_s, abs=0.1)


@pytest.mark.parametrize("text", ["", "1 2", "a b c"])
def test_where_the_system_does_not_tell_it_is_what_the_thread_ran(tmp_path: Path, text: str) -> None:
    (tmp_path / "schedstat").write_text(text)
    (tmp_path / "status").write_text("Name: x\n")
    for clock in (LoopClock(tmp_path), LoopClock(tmp_path / "nowhere")):
        for _ in range(2):
            assert waited_s(clock) == pytest.approx(0, abs=0.1)


def test_of_this_thread_it_never_falls() -> None:
    clock = LoopClock()
    seen = [clock.occupied_ns() for _ in range(100)]
    assert seen == sorted(seen)
