"""One version's queue and instances, seen from asyncio.

Instances are threads; the statistics and every waiting coroutine belong to the event loop. What arrives in one tick of
the loop enters the queue under one lock, and each batch crosses back in one call, however many requests it answers. A
batch that costs less than a hop to a thread and back runs right here, on the loop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from ortolan.errors import DeadlineExceeded, OrtolanError, RequestTimeout, Unavailable
from ortolan.execution.answer import Answer, hand_over
from ortolan.execution.device_share import DeviceShare, DeviceUser
from ortolan.execution.direct_request import DirectRequest
from ortolan.execution.graph_request import GraphRequest
from ortolan.execution.inline_execution import InlineExecution
from ortolan.execution.instance import Execution, Instance, Outcome
from ortolan.execution.ordered_answers import OrderedAnswers
from ortolan.execution.queued_request import QueuedRequest, queued
from ortolan.execution.request_counts import count_failure, count_success, counting_failures
from ortolan.execution.request_parts import execute_parts, joined
from ortolan.execution.request_queue import QueueLimits, RequestQueue
from ortolan.execution.running import Running
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session

_log = logging.getLogger(__name__)
# How many parts of one large request may be inside for each instance: one runs, one waits.
_PARTS_INSIDE = 2
# To refine the cost curve takes as long as a tenth of a small request.
_ALL_OBSERVED = 1000
_OBSERVED_EACH = 8


class Scheduler:
    """Answers the requests of one loaded version. Everything but the instances' threads lives on ``loop``."""

    live_sequences = 0

    def __init__(
        self,
        name: str,
        sessions: Sequence[tuple[str, Session, DeviceShare]],
        plan: SchedulingPlan,
        limits: QueueLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """``sessions``: name, session and device of each instance; several may share a session."""
        self.statistics = plan.statistics()
        self.plan = plan
        self._loop = loop
        self._inline: InlineExecution | None = None
        self._inline_before_ns = 0
        if plan.inline_gate is not None and not limits.hold_until:
            self._inline = InlineExecution(sessions[0][1], plan.inline_gate, plan.batching.max_rows, plan.ragged)
        self._queue = RequestQueue(plan.batching, plan.line, limits, plan.curves, len(sessions))
        user = DeviceUser(name)
        works = plan.rate_limit.works(self._queue) if plan.rate_limit else [None] * len(sessions)
        self.instances = [
            Instance(instance, session, self._queue, self._cross_over, share, user, plan.ragged, work)
            for (instance, session, share), work in zip(sessions, works, strict=True)
        ]
        self._ordered: OrderedAnswers[QueuedRequest] | None = OrderedAnswers() if plan.preserve_ordering else None
        self._arrivals: list[QueuedRequest] = []
        self._in_flight = 0
        self._in_parts = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        for instance in self.instances:
            instance.start()

    @property
    def waiting_requests(self) -> int:
        return len(self._queue) + len(self._arrivals)

    @property
    def oldest_ns(self) -> int:
        """Since when the request waits that has waited longest, by the monotonic clock; 0 where none does."""
        return self._queue.oldest_ns or (self._arrivals[0].enqueued_ns if self._arrivals else 0)

    @property
    def inline_ns(self) -> int:
        """How long runs took on the loop itself."""
        return self._inline_before_ns if self._inline is None else self._inline.spent_ns

    @property
    def in_flight_requests(self) -> int:
        """Requests that wait or run."""
        return self._in_flight

    async def infer(self, request: GraphRequest) -> Answer:
        """The outputs of one request, in the order in which it names them.

        Raises QueueFull, Unavailable, RequestTimeout, DeadlineExceeded, or what the model's run raised. Cancelling the
        caller takes the request out of the queue, and ends its run if no one else wants it.
        """
        start_ns = time.monotonic_ns()
        try:
            if self._closing:
                self._refuse_if_closing()
            answer = await self.execute(request)
        except (asyncio.CancelledError, OrtolanError) as error:
            count_failure(self.statistics, start_ns, error)
            raise
        count_success(self.statistics, request.rows, start_ns, answer)
        return answer

    async def infer_in_parts(self, request: GraphRequest) -> Answer:
        """As ``infer``, for a request with more rows than a batch may have: its parts' outputs, put together again.

        Only a few parts are inside at a time, so that one request neither fills the queue nor holds up the loop. The
        first part that fails fails the request, and the others are given up. It counts as one request.
        """
        start_ns = time.monotonic_ns()
        size = max(1, self.plan.batching.max_rows, self.plan.part_rows)
        with counting_failures(self.statistics, start_ns), self._inside_until_done():
            answers = await execute_parts(request, size, _PARTS_INSIDE * len(self.instances), self.execute)
        whole = joined(answers, start_ns)
        count_success(self.statistics, request.rows, start_ns, whole)
        return whole

    @contextlib.contextmanager
    def _inside_until_done(self) -> Iterator[None]:
        """A request in parts is inside as a whole: parts that come later are still let in while it is."""
        self._refuse_if_closing()
        self._in_flight += 1
        self._idle.clear()
        self._in_parts += 1
        try:
            yield
        finally:
            self._in_parts -= 1
            if self._closing and not self._in_parts:
                self._close()
            self.left()

    async def execute(self, asked: GraphRequest) -> Answer:
        """The answer to one request, or to a part of one; nothing is counted but executions."""
        request = queued(asked, self.plan.line, self._loop.create_future(), time.monotonic_ns())
        self._enter(request)
        timers = self._timers(request) if request.deadline_ns or request.queue_deadline_ns else ()
        try:
            answer: Answer = await request.answer_to
        except asyncio.CancelledError:
            self.give_up(request)
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self.left()
        return answer

    def begin(self, request: DirectRequest) -> bool:
        """Let a request in that is told of its own end. False where none is let in any more."""
        if self._closing:
            return False
        self._enter(request)
        if request.deadline_ns or request.queue_deadline_ns:
            request.timers = self._timers(request)
        return True

    # -- on the way in -------------------------------------------------------------------------------------------

    def _enter(self, request: QueuedRequest) -> None:
        if not self._in_flight:
            self._idle.clear()
        self._in_flight += 1
        if self._ordered is not None:
            self._ordered.expect(request)
        self._arrivals.append(request)
        if len(self._arrivals) == 1:
            self._loop.call_soon(self._admit_arrivals)

    def left(self) -> None:
        """A request that was inside has its answer, or wants none."""
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    def _admit_arrivals(self) -> None:
        """Run what came in this tick right here if that is cheaper than a thread, else let it wait for an instance."""
        arrivals = [request for request in self._arrivals if not request.answer_to.done()]
        self._arrivals = []
        if not arrivals:
            return
        if self._inline is not None and not len(self._queue):
            executions = self._inline.run(arrivals)
            if executions:
                self._answer(Outcome(executions))
            if not arrivals:
                return
        for refusal in self._queue.put(arrivals):
            self._refuse(refusal.request, refusal.error)

    # -- time --------------------------------------------------------------------------------------------------

    def _timers(self, request: QueuedRequest) -> list[asyncio.TimerHandle]:
        """What ends the request's waiting when one of its times is over."""
        now_ns = request.enqueued_ns
        timers: list[asyncio.TimerHandle] = []
        if request.deadline_ns:
            delay_s = max(0.0, (request.deadline_ns - now_ns) / 1e9)
            timers.append(self._loop.call_later(delay_s, self._on_deadline, request))
        if request.queue_deadline_ns:
            # Timers count whole milliseconds and may fire early; after this one the time is certainly over.
            delay_s = (request.queue_deadline_ns - now_ns) / 1e9 + 0.002
            timers.append(self._loop.call_later(delay_s, self._on_queue_timeout, request))
        return timers

    def _on_deadline(self, request: QueuedRequest) -> None:
        if request.answer_to.done():
            return
        self._queue.take_out(request)
        self._refuse(request, DeadlineExceeded("the request's deadline passed before its answer was ready"))

    def _on_queue_timeout(self, request: QueuedRequest) -> None:
        if not request.answer_to.done() and self._queue.expire(request):
            self._refuse(request, RequestTimeout("Request timeout expired"))

    def give_up(self, request: QueuedRequest) -> None:
        """No one waits for ``request`` any more: out of the queue with it, or out of its run."""
        self._queue.take_out(request)
        self._lose_place(request)

    def _lose_place(self, request: QueuedRequest) -> None:
        """Let no answer wait for that of ``request``."""
        if self._ordered is not None:
            self._ordered.complete(request, _nothing)

    # -- on the way out ------------------------------------------------------------------------------------------

    def _cross_over(self, outcome: Outcome) -> None:
        """In an instance's thread: hand what it did to the loop."""
        try:
            self._loop.call_soon_threadsafe(self._answer, outcome)
        except RuntimeError:
            _log.debug("the event loop is gone; an execution's answers have no one to go to")

    def _answer(self, outcome: Outcome) -> None:
        """On the loop: complete each request of the outcome, exactly once."""
        for refusal in outcome.refusals:
            self._refuse(refusal.request, refusal.error)
        for execution in outcome.executions:
            self._count_execution(execution)
            for request, answer in zip(execution.requests, execution.answers, strict=True):
                request.running = None
                if isinstance(answer, OrtolanError):
                    self._complete(request, answer)
                else:
                    queue_ns = execution.times.start_ns - request.enqueued_ns
                    self._complete(request, Answer(answer, queue_ns, execution.times, execution.rows))

    def _refuse(self, request: QueuedRequest, error: OrtolanError) -> None:
        """Tell the client at once that there will be no answer, even where answers keep their order."""
        self._lose_place(request)
        hand_over(request.answer_to, error)

    def _complete(self, request: QueuedRequest, answer: Answer | OrtolanError) -> None:
        if self._ordered is None:
            hand_over(request.answer_to, answer)
        else:
            self._ordered.complete(request, lambda: hand_over(request.answer_to, answer))

    def _count_execution(self, execution: Execution) -> None:
        if isinstance(execution.answers[0], OrtolanError):
            self.statistics.failed_run_ns += execution.times.end_ns - execution.times.start_ns
            return
        self.statistics.count_execution(execution.rows, execution.times)
        if self.plan.curves is not None and self._is_observed():
            duration_ns = execution.times.end_ns - execution.times.start_ns
            self.plan.curves.observe(execution.requests[0].row_bytes, execution.rows, duration_ns)

    def _is_observed(self) -> bool:
        """Whether the curve is to learn from the run that was just counted: from each of the first, then from some."""
        count = self.statistics.execution_count
        return count < _ALL_OBSERVED or not count % _OBSERVED_EACH

    # -- ending --------------------------------------------------------------------------------------------------

    def fail_running(self, running: Running[QueuedRequest], error: OrtolanError) -> None:
        """Answer every request of an execution that will not end by itself, and try to end it."""
        running.abandon()
        for request in running.requests:
            self._refuse(request, error)

    def refuse_waiting(self, error: OrtolanError) -> None:
        """Answer everything that waits with ``error``: there is nobody to run it."""
        for request in self._queue.take_all_out():
            self._refuse(request, error)

    def hurry(self) -> None:
        """Let no batch wait any more for requests that may come."""
        self._queue.hurry()

    def refuse_new(self) -> None:
        """Let no further request in; those inside are still answered."""
        self._closing = True
        if not self._in_parts:
            self._close()

    def _close(self) -> None:
        self._admit_arrivals()
        self._inline_before_ns = self.inline_ns
        self._inline = None
        self._queue.close()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise Unavailable("Server is stopping, scheduler for model has stopped accepting new inference requests")

    async def drained(self) -> None:
        """Return once no request waits or runs."""
        await self._idle.wait()

    def join(self, timeout_s: float) -> bool:
        """Wait for the instances' threads to end. False if one of them is still busy after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        ended = [instance.join(max(0.0, deadline - time.monotonic())) for instance in self.instances]
        if self.plan.rate_limit is not None:
            self.plan.rate_limit.end()
        return all(ended)


def _nothing() -> None:
    """What is released for a request that has lost its place."""
