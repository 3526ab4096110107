"""Turns of instances that share resources, with threads: the account under a lock, each instance's way through it."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ortolan.execution.request_queue import RequestQueue, Work
from ortolan.execution.resource_turns import DeclaredResource, ResourceTurn, ResourceTurns, ResourceUser


class RateLimiter:
    """The resources of one server, shared by all instances that need some. Safe from any thread."""

    def __init__(self, declared: Sequence[DeclaredResource] = ()) -> None:
        self._lock = threading.Lock()
        self._turns = ResourceTurns(declared)
        self._events: dict[ResourceTurn, threading.Event] = {}

    @property
    def waiting(self) -> int:
        """How many instances wait for their turn."""
        return self._turns.waiting

    def admit(self, users: Iterable[ResourceUser]) -> None:
        """Let ``users`` ask for turns. Raises InvalidArgument, and admits none, when one could never run."""
        with self._lock:
            self._turns.admit(users)

    def dismiss(self, users: Iterable[ResourceUser]) -> None:
        """``users`` are gone, and whatever they held or waited for is over."""
        with self._lock:
            for turn in self._turns.dismiss(users):
                self._wake(turn)
            self._let_in()

    def ask(self, user: ResourceUser) -> ResourceTurn:
        """A turn of ``user``, for which ``wait`` waits."""
        with self._lock:
            turn = self._asked(user)
            self._let_in()
            return turn

    def wait(self, turn: ResourceTurn) -> bool:
        """Return once ``turn`` holds what it needs; False when it was over before, because its user is dismissed."""
        event = self._events.get(turn)
        if event is not None:
            event.wait()
        return turn.held

    def give_back(self, turn: ResourceTurn, ran: bool) -> None:
        """``turn`` is over; it counts if something ``ran`` in it. A second time does nothing."""
        with self._lock:
            self._end(turn, ran)
            self._let_in()

    def give_back_and_ask(self, turn: ResourceTurn) -> ResourceTurn:
        """As ``give_back``, for a user with more to do: it takes part in the choice of who is next."""
        with self._lock:
            self._end(turn, ran=True)
            following = self._asked(turn.user)
            self._let_in()
            return following

    def _asked(self, user: ResourceUser) -> ResourceTurn:
        turn = self._turns.ask(user)
        self._events[turn] = threading.Event()
        return turn

    def _end(self, turn: ResourceTurn, ran: bool) -> None:
        self._turns.give_back(turn, ran)
        self._wake(turn)

    def _let_in(self) -> None:
        for turn in self._turns.let_in():
            self._wake(turn)

    def _wake(self, turn: ResourceTurn) -> None:
        event = self._events.pop(turn, None)
        if event is not None:
            event.set()


class LimitedWork:
    """An instance's work, which it gets only while it holds its resources. Of the instance's thread but for ``lose``.

    What waits stays in its line until then, so that it can join a larger batch, time out or be cancelled.
    """

    def __init__(self, queue: RequestQueue, limiter: RateLimiter, user: ResourceUser) -> None:
        self._queue = queue
        self._limiter = limiter
        self._user = user
        self._turn: ResourceTurn | None = None

    def take(self) -> Work | None:
        """As ``RequestQueue.take``; where there is something to run the resources are held, until ``done``."""
        while True:
            turn = self._turn
            if turn is None:
                ready = self._queue.await_batch()
                if ready is None or ready.refusals:
                    return ready
                turn = self._turn = self._limiter.ask(self._user)
            if not self._limiter.wait(turn):
                return None
            work = self._queue.take_now()
            if work is not None and work.running is not None:
                return work
            # Another instance was quicker, or those who waited have gone.
            self._turn = None
            self._limiter.give_back(turn, ran=False)
            if work is not None:
                return work

    def done(self) -> None:
        """What was taken has been run."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if len(self._queue):
            self._turn = self._limiter.give_back_and_ask(turn)
        else:
            self._limiter.give_back(turn, ran=True)

    def lose(self) -> None:
        """From any thread: the run hangs, so what it holds goes to others."""
        turn = self._turn
        if turn is not None and turn.held:
            self._limiter.give_back(turn, ran=True)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The part that one version's instances have in the limiter."""

    limiter: RateLimiter
    users: tuple[ResourceUser, ...]
    """One for each instance; one without needs runs whenever there is work."""

    def works(self, queue: RequestQueue) -> Sequence[LimitedWork | None]:
        """The work of each instance; None where it needs nothing."""
        return [LimitedWork(queue, self.limiter, user) if user.needs else None for user in self.users]

    def end(self) -> None:
        """The version is gone, with all its instances."""
        self.limiter.dismiss(self.users)
