"""Ending a run that no one wants any more, from whichever side comes first."""

import threading
from dataclasses import dataclass

import pytest

from ortolan.execution.running import Running


@dataclass
class Run:
    """A run that counts how often it was ended."""

    ended: int = 0

    def terminate(self) -> None:
        self.ended += 1


def test_a_run_is_ended_when_the_last_of_its_requests_is_forgotten() -> None:
    running, run = Running(["a", "b", "c"], 3), Run()
    assert running.begin(run)
    for ended in (0, 0, 1):
        running.forget_one()
        assert run.ended == ended
    assert running.abandoned


def test_what_is_not_wanted_any_more_does_not_start() -> None:
    running, run = Running(["a"], 1), Run()
    running.forget_one()
    assert not running.begin(run)
    assert run.ended == 0


@pytest.mark.parametrize("begins_first", [True, False])
def test_an_abandoned_run_ends_whoever_comes_first(begins_first: bool) -> None:
    running, run = Running(["a"], 1), Run()
    if begins_first:
        assert running.begin(run)
        running.abandon()
        assert run.ended == 1
    else:
        running.abandon()
        assert not running.begin(run)


def test_no_run_starts_and_stays_when_both_happen_at_once() -> None:
    both = threading.Barrier(2)
    for _ in range(300):
        running, run = Running(["a"], 1), Run()

        def abandon(running: Running[str] = running) -> None:
            both.wait()
            running.abandon()

        other = threading.Thread(target=abandon)
        other.start()
        both.wait()
        started = running.begin(run)
        other.join()
        assert not started or run.ended == 1


def test_two_executions_are_never_the_same() -> None:
    first, second = Running(["a"], 1, started_ns=5), Running(["a"], 1, started_ns=5)
    assert first != second
    assert len({first, second}) == 2


def test_the_clock_starts_with_the_execution() -> None:
    first = Running(["a"], 1)
    assert Running(["a"], 1).started_ns >= first.started_ns > 0
