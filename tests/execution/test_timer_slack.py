"""A thread that asks for it is woken when its time is over; no other thread is concerned."""

import ctypes
import sys
import threading

import pytest

from ortolan.execution.timer_slack import wake_exactly

_PR_GET_TIMERSLACK = 30


@pytest.mark.skipif(sys.platform != "linux", reason="timers have no such setting elsewhere")
def test_only_the_thread_that_asks_for_it_is_woken_exactly() -> None:
    def slack_ns() -> int:
        return ctypes.CDLL(None).prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)

    before_ns = slack_ns()
    found: list[int] = []

    def look() -> None:
        wake_exactly()
        found.append(slack_ns())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [1]
    assert slack_ns() == before_ns
