"""Waking when the time is over, and not when it suits the kernel: how late a thread's timers may be."""

import contextlib
import ctypes
import sys

_PR_SET_TIMERSLACK = 29
_LEAST_NS = 1


def wake_exactly() -> None:
    """Let the timers of the calling thread be as exact as they can. Linux delays them by 50 us by default."""
    if sys.platform != "linux":
        return
    # A sandbox may forbid it; timers are a little later then, and nothing else changes.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _LEAST_NS, 0, 0, 0)
