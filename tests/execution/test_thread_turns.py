"""How long a thread's turns are, as the kernel tells."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ortolan.execution.thread_turns import take_short_turns, take_usual_turns


def turn_ns() -> int:
    lines = Path(f"/proc/self/task/{threading.get_native_id()}/sched").read_text().splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("se.slice"))


def in_thread(work: Callable[[], object]) -> list[object]:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found


def kernel_knows_turns() -> bool:
    try:
        return turn_ns() > 0
    except (OSError, StopIteration):
        return False


def test_asking_never_fails() -> None:
    assert in_thread(take_short_turns) == [None]
    assert in_thread(take_usual_turns) == [None]


@pytest.mark.skipif(sys.platform != "linux" or not kernel_knows_turns(), reason="the kernel does not tell of turns")
def test_a_thread_and_those_that_it_starts_have_short_turns_until_they_want_usual_ones() -> None:
    def unhurried() -> int:
        take_usual_turns()
        return turn_ns()

    (usual,) = in_thread(unhurried)

    def child() -> tuple[int, int]:
        inherited = turn_ns()
        take_usual_turns()
        return inherited, turn_ns()

    def parent() -> tuple[int, list[object]]:
        take_short_turns()
        return turn_ns(), in_thread(child)

    (found,) = in_thread(parent)
    if found == (usual, [(usual, usual)]):
        pytest.skip("the kernel leaves turns as they are")
    assert found == (100_000, [(100_000, usual)])
