"""How long a thread's turns on a core are: who takes short ones gets its next one sooner, at no one's expense.

Linux shares cores fairly, however long turns are; but a thread that wakes up waits for the end of another's turn,
which is 3 ms or more, unless its own is to be shorter. Threads that serve wake up for every request, and one that loads
a model computes for seconds. The length is one of `sched_setattr(2)`, since Linux 6.12 for ordinary threads as well;
older kernels and sandboxes ignore or refuse it, and nothing else changes. It needs no privilege.

Lower priorities are no way to have this: they cannot be raised again, threads that the runtime makes inherit them, and
a thread that is kept from the cores while it holds Python's lock keeps all others from theirs.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys

_NUMBERS = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
# struct sched_attr of linux/sched/types.h, version 0: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
_SHORT_NS = 100_000
_USUAL_NS = 0


def take_short_turns() -> None:
    """Let the calling thread, and those that it starts from now on, have short turns."""
    _take(_SHORT_NS)


def take_usual_turns() -> None:
    """Let the calling thread, and those that it starts from now on, have turns as long as the kernel likes."""
    _take(_USUAL_NS)


def _take(nanoseconds: int) -> None:
    number = _NUMBERS.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    # A sandbox may forbid it.
    with contextlib.suppress(OSError, AttributeError):
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)
