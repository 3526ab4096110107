"""Fair turns on one device: which model's batch runs next where more batches are ready than the device has places.

Fair queueing: each model has a virtual time, the device time it used, and of those that wait the one that used least
goes first. A model that was idle starts at the present virtual time, that of the run that was let in last, so that it
can neither hoard nor owe. A place that is held for longer than a bound counts as lost until it comes back, so that a
run that hangs cannot keep the device from the others.
"""

import threading
import time
from dataclasses import dataclass

LONGEST_HOLD_S = 0.1
# On a GPU one batch is copied while another is computed.
_GPU_PLACES = 2


@dataclass(slots=True, eq=False)
class DeviceUser:
    """One model version's account on a device."""

    name: str
    used_ns: float = 0.0
    active: int = 0
    """Its batches that run or wait for a turn."""


@dataclass(slots=True, eq=False)
class Turn:
    """One run's way over the device: it waits, then holds a place; ``lost`` once someone else was let in for it."""

    user: DeviceUser
    order: int
    since_ns: int = -1
    """When it was let in; -1 while it waits."""
    lost: bool = False


class Turns:
    """The account of a device's places: pure, the clock comes in."""

    def __init__(self, places: int, longest_hold_ns: int) -> None:
        self.places = max(1, places)
        self._longest_hold_ns = longest_hold_ns
        self._waiting: list[Turn] = []
        self._held: list[Turn] = []
        self._lost = 0
        self._order = 0
        self._virtual_ns = 0.0

    def ask(self, user: DeviceUser, now_ns: int) -> Turn:
        """A turn of ``user``, which may have been let in at once."""
        if user.active == 0:
            user.used_ns = max(user.used_ns, self._virtual_ns)
        user.active += 1
        self._order += 1
        turn = Turn(user, self._order)
        if self._free() > 0:
            self._let_in(turn, now_ns)
        else:
            self._waiting.append(turn)
        return turn

    def give_back(self, turn: Turn, duration_ns: int, now_ns: int) -> list[Turn]:
        """The run of ``turn`` is over; the turns that are let in for it."""
        turn.user.active -= 1
        turn.user.used_ns += duration_ns
        self._held.remove(turn)
        self._lost -= turn.lost
        return self.look(now_ns)

    def look(self, now_ns: int) -> list[Turn]:
        """The turns that can be let in by now, because places are free or count as lost."""
        found: list[Turn] = []
        while self._waiting and (self._free() > 0 or self._lose_one(now_ns)):
            following = min(self._waiting, key=lambda turn: (turn.user.used_ns, turn.order))
            self._waiting.remove(following)
            self._let_in(following, now_ns)
            found.append(following)
        return found

    def next_look_ns(self) -> int:
        """When the next place that is held will count as lost. At least one is, while a turn waits."""
        return min(turn.since_ns for turn in self._held if not turn.lost) + self._longest_hold_ns

    def _free(self) -> int:
        return self.places + self._lost - len(self._held)

    def _let_in(self, turn: Turn, now_ns: int) -> None:
        turn.since_ns = now_ns
        self._held.append(turn)
        self._virtual_ns = max(self._virtual_ns, turn.user.used_ns)

    def _lose_one(self, now_ns: int) -> bool:
        for turn in self._held:
            if not turn.lost and now_ns - turn.since_ns >= self._longest_hold_ns:
                turn.lost = True
                self._lost += 1
                return True
        return False


class DeviceShare:
    """The places of one device, shared by all versions that run on it. Safe from any thread.

    A thread holds one place at a time: it enters, runs, and leaves.
    """

    def __init__(self, places: int, longest_hold_s: float = LONGEST_HOLD_S) -> None:
        self._lock = threading.Lock()
        self._turns = Turns(places, int(longest_hold_s * 1e9))
        self._turn_of: dict[tuple[int, DeviceUser], Turn] = {}
        self._events: dict[Turn, threading.Event] = {}

    @property
    def places(self) -> int:
        """How many runs may be on the device at a time."""
        return self._turns.places

    @property
    def waiting(self) -> int:
        """How many runs wait for their turn."""
        return len(self._events)

    def enter(self, user: DeviceUser) -> None:
        """Take a place on the device for a run of ``user`` in this thread, when it is its turn."""
        with self._lock:
            turn = self._turns.ask(user, time.monotonic_ns())
            self._turn_of[threading.get_ident(), user] = turn
            if turn.since_ns >= 0:
                return
            let_in = self._events[turn] = threading.Event()
        while not let_in.wait(self._until_next_look_s()):
            with self._lock:
                self._wake(self._turns.look(time.monotonic_ns()))

    def leave(self, user: DeviceUser, duration_ns: int) -> None:
        """Give the place back that this thread holds for ``user``, after a run of ``duration_ns``."""
        with self._lock:
            turn = self._turn_of.pop((threading.get_ident(), user))
            self._wake(self._turns.give_back(turn, duration_ns, time.monotonic_ns()))

    def _until_next_look_s(self) -> float:
        with self._lock:
            return max(0.0, (self._turns.next_look_ns() - time.monotonic_ns()) / 1e9) if self._events else 0.0

    def _wake(self, turns: list[Turn]) -> None:
        for turn in turns:
            self._events.pop(turn).set()


class DeviceShares:
    """The share of each device of this process. Safe from any thread."""

    def __init__(self, cpu_places: int) -> None:
        self._cpu_places = cpu_places
        self._lock = threading.Lock()
        self._shares: dict[str, DeviceShare] = {}

    def of(self, device: str) -> DeviceShare:
        """The share of ``device``, such as ``CPU`` or ``GPU 0``."""
        with self._lock:
            if device not in self._shares:
                places = self._cpu_places if device == "CPU" else _GPU_PLACES
                self._shares[device] = DeviceShare(places)
            return self._shares[device]
