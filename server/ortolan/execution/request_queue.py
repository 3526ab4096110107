"""Where requests wait: clients put, idle instances take. The waiting line under one lock, with a clock.

A request waits, then runs, then is over. Every change of that goes through this class, so that each admitted request is
answered exactly once: by the instance that took it, or by whoever got ``True`` for taking it out.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ortolan.errors import DeadlineExceeded, OrtolanError, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.batch_policy import Batching, Drop, Take, WaitUntil, decide
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.queued_request import QueuedRequest, Refusal
from ortolan.execution.running import Running
from ortolan.execution.waiting_line import LinePolicy, WaitingLine

# A thread may wake some 100 us late; the last stretch before a batch is due is waited out awake, and the very last
# without letting go of the interpreter.
_AWAKE_NS = 200_000
_BUSY_NS = 25_000
_NEVER_NS = 1 << 63
_LONGEST_RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class Work:
    """What an instance gets: a batch to run, requests to refuse, or both."""

    running: Running[QueuedRequest] | None
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait for one version, and until how many wait nothing is taken (for tests of schedulers)."""

    max_requests: int = 4096
    max_bytes: int = 1 << 30
    hold_until: int = 0


class RequestQueue:
    """The queue of one model version. All methods may be called from any thread."""

    def __init__(
        self,
        batching: Batching,
        policy: LinePolicy,
        limits: QueueLimits,
        curves: CurveBook | None = None,
        instances: int = 1,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._batching = batching
        self._curves = curves
        self._instances = instances
        self._clock_ns = clock_ns
        self._line: WaitingLine[QueuedRequest] = WaitingLine(policy, limits.max_requests, limits.max_bytes)
        self._changed = threading.Condition(threading.Lock())
        self._idle = 0
        self._watched_until_ns = _NEVER_NS
        self._held_until = limits.hold_until
        self._closed = False

    def __len__(self) -> int:
        return len(self._line)

    @property
    def oldest_ns(self) -> int:
        """Since when the request waits that has waited longest; 0 where none does."""
        with self._changed:
            return self._line.oldest_ns

    @property
    def delays(self) -> bool:
        """Whether batches wait for more requests, so that it matters how exactly ``take`` wakes."""
        return self._batching.max_delay_ns > 0

    @property
    def waiting_bytes(self) -> int:
        return self._line.size_bytes

    def put(self, requests: Iterable[QueuedRequest]) -> list[Refusal]:
        """Let ``requests`` wait; those that may not are returned, with the reason."""
        refusals: list[Refusal] = []
        admitted = 0
        with self._changed:
            for request in requests:
                try:
                    self._admit(request)
                    admitted += 1
                except OrtolanError as error:
                    refusals.append(Refusal(request, error))
            if admitted:
                # One is enough: whoever takes a part of them wakes the next.
                self._changed.notify()
        return refusals

    def _admit(self, request: QueuedRequest) -> None:
        if self._closed:
            raise Unavailable("Server is stopping, scheduler for model has stopped accepting new inference requests")
        if request.deadline_ns:
            self._refuse_if_late(request)
        try:
            self._line.push(request)
        except QueueFull as error:
            error.retry_after_s = self._retry_after_s()
            raise
        request.waiting = True

    def _refuse_if_late(self, request: QueuedRequest) -> None:
        """Refuse at the door what the requests before it would make late."""
        if self._has_nothing_else_to_do() and self._clock_ns() < request.deadline_ns:
            return
        wait_ns = self.predicted_wait_ns(self._line.rows_before(request.priority))
        own_ns = self._curves.curve(request.row_bytes).duration_ns(request.rows) if self._curves else 0
        if self._clock_ns() + wait_ns + own_ns > request.deadline_ns:
            error = DeadlineExceeded(
                f"the deadline cannot be met: about {(wait_ns + own_ns) / 1e6:.1f} ms are needed. "
                "Allow more time, or retry later."
            )
            error.retry_after_s = self._retry_after_s()
            raise error

    def _has_nothing_else_to_do(self) -> bool:
        """Whether an instance is free and no one waits for it.

        It then tries even what looks hopeless: what was measured may be wrong, and only a run can correct it.
        """
        return self._idle > 0 and not len(self._line)

    def predicted_wait_ns(self, rows: int) -> float:
        """How long the first ``rows`` waiting rows will take, by the cost curve; 0 where none was measured."""
        if self._curves is None or not len(self._line):
            return 0.0
        first = next(iter(self._line))
        rate = self._curves.curve(first.row_bytes).best_rows_per_s(self._batching.max_rows)
        return rows / (rate * self._instances) * 1e9

    def _retry_after_s(self) -> int:
        return min(_LONGEST_RETRY_AFTER_S, max(1, round(self.predicted_wait_ns(self._line.rows) / 1e9)))

    def take_out(self, request: QueuedRequest) -> bool:
        """Take ``request`` back before it is executed. False when an instance has it already, or had it.

        If it is running, its run is ended as soon as none of its companions is wanted any more.
        """
        with self._changed:
            if request.waiting:
                self._line.remove(request)
                request.waiting = False
                return True
            if request.running is not None:
                request.running.forget_one()
                request.running = None
            return False

    def expire(self, request: QueuedRequest) -> bool:
        """Apply the queue policy now that the request's time in the queue is over. True when it is to be refused."""
        with self._changed:
            if not request.waiting or not self._line.expire([request], self._clock_ns()):
                return False
            request.waiting = False
            return True

    def take_all_out(self) -> list[QueuedRequest]:
        """Take back everything that waits."""
        with self._changed:
            found = list(self._line)
            for request in found:
                self._line.remove(request)
                request.waiting = False
            return found

    def take(self) -> Work | None:
        """The next batch; blocks until there is one. None once the queue is closed and nothing waits any more."""
        return self._taken(self._pop)

    def await_batch(self) -> Work | None:
        """As ``take``, but the batch is left where it is: work without anything to run or refuse stands for it."""
        return self._taken(self._leave_in_line)

    def take_now(self) -> Work | None:
        """As ``take``, but without blocking: None where there is nothing that should run at once."""
        with self._changed:
            work = self._next_work(self._pop) if len(self._line) else None
            return work if isinstance(work, Work) else None

    def _taken(self, pop: Callable[[list[QueuedRequest]], Running[QueuedRequest] | None]) -> Work | None:
        with self._changed:
            while True:
                if not len(self._line) or (len(self._line) < self._held_until and not self._closed):
                    if self._closed:
                        return None
                    self._wait(None)
                    continue
                self._held_until = 0
                work = self._next_work(pop)
                if isinstance(work, Work):
                    return work
                self._wait(work.time_ns)

    def _next_work(self, pop: Callable[[list[QueuedRequest]], Running[QueuedRequest] | None]) -> Work | WaitUntil:
        """A batch, got by ``pop``, or refusals, or until when to wait for more. Something waits in the line."""
        now_ns = self._clock_ns()
        head = self._line.front(self._batching.max_rows)
        if any(0 < request.queue_deadline_ns <= now_ns for request in head):
            expired = self._line.expire(head, now_ns)
            if expired:
                return Work(None, tuple(self._refused(request, _queue_timeout()) for request in expired))
            head = self._line.front(self._batching.max_rows)
        curve = self._curves.curve(head[0].row_bytes) if self._curves else None
        decision = decide(head, now_ns, self._batching, curve, self._idle + 1)
        if isinstance(decision, Take):
            return Work(pop(head[: decision.count]))
        if isinstance(decision, Drop):
            dropped = head[: decision.count]
            for request in dropped:
                self._line.remove(request)
            return Work(None, tuple(self._refused(request, _too_late()) for request in dropped))
        return decision

    def _refused(self, request: QueuedRequest, error: OrtolanError) -> Refusal:
        request.waiting = False
        return Refusal(request, error)

    def _wait(self, until_ns: int | None) -> None:
        """Wait for a change, at most until ``until_ns``; one instance watches the time for all that wait for it."""
        if until_ns is None or until_ns >= self._watched_until_ns:
            self._sleep(None)
            return
        self._watched_until_ns = until_ns
        try:
            left_ns = until_ns - self._clock_ns()
            if left_ns > _AWAKE_NS:
                self._sleep((left_ns - _AWAKE_NS) / 1e9)
            else:
                self._stay_awake(left_ns)
        finally:
            if self._watched_until_ns == until_ns:
                self._watched_until_ns = _NEVER_NS

    def _sleep(self, duration_s: float | None) -> None:
        self._idle += 1
        try:
            self._changed.wait(duration_s)
        finally:
            self._idle -= 1

    def _stay_awake(self, left_ns: int) -> None:
        """Let others put and take for a moment; what they changed is seen when the decision is made anew."""
        self._changed.release()
        try:
            if left_ns > _BUSY_NS:
                time.sleep(0)
            else:
                end_ns = time.monotonic_ns() + left_ns
                while time.monotonic_ns() < end_ns:
                    pass
        finally:
            self._changed.acquire()

    def _pop(self, batch: list[QueuedRequest]) -> Running[QueuedRequest]:
        running = Running(batch, len(batch), self._clock_ns())
        for request in batch:
            self._line.remove(request)
            request.waiting = False
            request.running = running
        if len(self._line):
            # One notification may have stood for several requests; another idle instance can take the rest.
            self._changed.notify()
        return running

    def _leave_in_line(self, batch: list[QueuedRequest]) -> None:  # noqa: ARG002
        # Whoever may not run it yet must not be the only one who knows of it.
        self._changed.notify()

    def hurry(self) -> None:
        """Let no batch wait any more for requests that may come."""
        with self._changed:
            self._batching = replace(self._batching, max_delay_ns=0)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse further requests; those that wait are still taken."""
        with self._changed:
            self._closed = True
        # No one comes any more for whom a batch could wait.
        self.hurry()


def _queue_timeout() -> RequestTimeout:
    return RequestTimeout("Request timeout expired")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's deadline could not be met; it was not executed")
