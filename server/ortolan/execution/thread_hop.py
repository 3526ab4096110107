"""What it costs on this machine, now, to have a thread do something instead of doing it at once."""

import threading
import time
from queue import SimpleQueue

_TURNS = 40
# An instance is woken by a condition, hands its answer to the event loop by a descriptor, and has to wait for the
# interpreter after its run: a model of 100 us answered 8 clients 1.6 times as often without that, for 0.55 of the
# processor time, and 32 clients as often.
_DEARER = 3
# A machine that is busy while it is measured is not always so.
_LEAST_NS, _MOST_NS = 150_000, 300_000


def measured_hop_ns() -> int:
    """Nanoseconds from handing something to a thread that waits until what it made of it is back; takes some ms."""
    there: SimpleQueue[int | None] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def answer() -> None:
        while (number := there.get()) is not None:
            back.put(number)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    turns_ns = []
    for number in range(_TURNS):
        start_ns = time.monotonic_ns()
        there.put(number)
        back.get()
        turns_ns.append(time.monotonic_ns() - start_ns)
    there.put(None)
    thread.join()
    usual_ns = sorted(turns_ns)[_TURNS // 4]
    return min(max(int(usual_ns * _DEARER), _LEAST_NS), _MOST_NS)
