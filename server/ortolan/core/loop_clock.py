"""How long a thread has been occupied: it ran, or had to wait for a core in the middle of its work.

Of a thread that shares its cores with others what it ran says too little: one that gets a third of a core can do no
more when it has run for a third of the time. What it waited in all says too much: with little to do it waits each time
that it wakes, which costs its requests time, but not the server a part of what it could do. So of the waiting that part
counts which is as large as that of the switches in which the system took the core away, and the thread did not give it.
"""

import re
import time
from pathlib import Path

_SWITCHES = re.compile(rb"^(non)?voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


class LoopClock:
    """Of the thread that asks, always the same one. Only Linux tells of waiting; elsewhere only what it ran counts."""

    def __init__(self, thread: Path = Path("/proc/thread-self")) -> None:
        self._thread = thread
        self._waited_ns = 0.0
        self._before: tuple[int, int, int] | None = None

    def occupied_ns(self) -> int:
        """Since the thread began, or rather since this was first asked; the wait counts as it was between two calls."""
        told = self._told()
        if told is not None and self._before is not None:
            waited_ns, given, taken = (now - before for now, before in zip(told, self._before, strict=True))
            self._waited_ns += waited_ns * taken / max(1, given + taken)
        self._before = told
        return time.thread_time_ns() + int(self._waited_ns)

    def _told(self) -> tuple[int, int, int] | None:
        """How long the thread waited, how often it gave the core away, and how often that was taken from it."""
        try:
            _, waited, _ = (self._thread / "schedstat").read_bytes().split()
            found = {kind: int(count) for kind, count in _SWITCHES.findall((self._thread / "status").read_bytes())}
            return int(waited), found[b""], found[b"non"]
        except (OSError, ValueError, KeyError):
            return None
