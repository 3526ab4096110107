"""One version's queue and instances, seen from asyncio.

Instances are threads; the statistics and every waiting coroutine belong to the event loop. What arrives in one tick of
the loop enters the queue under one lock, and each batch crosses back in one call, however many requests it answers. A
batch that costs less than a hop to a thread and back runs right here, on the loop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ortolan.errors import Cancelled, DeadlineExceeded, Internal, OrtolanError, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.batch_policy import Batching
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.device_share import DeviceShare, DeviceUser
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.instance import Execution, Instance, Outcome, execute
from ortolan.execution.model_statistics import ExecutionTimes, FailureReason, ModelStatistics
from ortolan.execution.ordered_answers import OrderedAnswers
from ortolan.execution.request_queue import QueuedRequest, QueueLimits, RequestQueue
from ortolan.execution.running import Running
from ortolan.execution.session import Session
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import Array

_log = logging.getLogger(__name__)
# How many parts of one large request may be inside for each instance: one runs, one waits.
_PARTS_INSIDE = 2


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a client asks of the scheduler: 0 for nothing. The deadline is on the monotonic clock."""

    priority: int = 0
    timeout_us: int = 0
    deadline_ns: int = 0


NO_LIMITS = RequestLimits()


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of one request, and where its time went: nanoseconds, and the rows of its batch."""

    outputs: list[Array]
    queue_ns: int
    times: ExecutionTimes
    batch_rows: int

    @property
    def compute_ns(self) -> int:
        return self.times.end_ns - self.times.start_ns


@dataclass(frozen=True, slots=True)
class SchedulingPlan:
    """How one version is to be scheduled; made at load out of its configuration and what was measured."""

    batching: Batching
    line: LinePolicy
    preserve_ordering: bool = False
    curves: CurveBook | None = None
    inline_gate: InlineGate | None = None
    """Lets batches run on the event loop; None where none may."""
    part_rows: int = 1
    """The rows of the parts of a request that is larger than a batch may be."""
    max_execution_s: float = 0.0
    """When a run is taken for hung; 0 for never."""


class Scheduler:
    """Answers the requests of one loaded version. Everything but the instances' threads lives on ``loop``."""

    def __init__(
        self,
        name: str,
        sessions: Sequence[tuple[str, Session, DeviceShare]],
        plan: SchedulingPlan,
        limits: QueueLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """``sessions``: name, session and device of each instance; several may share a session."""
        self.statistics = ModelStatistics()
        self.plan = plan
        self._loop = loop
        self._session = sessions[0][1]
        self._inline_gate = None if limits.hold_until else plan.inline_gate
        self._queue = RequestQueue(plan.batching, plan.line, limits, plan.curves, len(sessions))
        user = DeviceUser(name)
        self.instances = [
            Instance(instance, session, self._queue, self._cross_over, share, user)
            for instance, session, share in sessions
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
    def in_flight_requests(self) -> int:
        """Requests that wait or run."""
        return self._in_flight

    async def infer(
        self,
        inputs: Mapping[str, Array],
        output_names: tuple[str, ...],
        rows: int,
        shapes: object = None,
        limits: RequestLimits = NO_LIMITS,
    ) -> Answer:
        """The outputs of one request, in the order of ``output_names``.

        ``shapes`` is equal for requests that may share a batch. Raises QueueFull, Unavailable, RequestTimeout,
        DeadlineExceeded, or what the model's run raised. Cancelling the caller takes the request out of the queue, and
        ends its run if no one else wants it.
        """
        start_ns = time.monotonic_ns()
        with self._counting_failures(start_ns):
            self._refuse_if_closing()
            answer = await self._execute(inputs, output_names, rows, shapes, limits)
        self._count_success(rows, start_ns, answer)
        return answer

    async def infer_in_parts(
        self,
        inputs: Mapping[str, Array],
        output_names: tuple[str, ...],
        rows: int,
        shapes: object = None,
        limits: RequestLimits = NO_LIMITS,
    ) -> Answer:
        """As ``infer``, for a request with more rows than a batch may have: its parts' outputs, put together again.

        Only a few parts are inside at a time, so that one request neither fills the queue nor holds up the loop. The
        first part that fails fails the request, and the others are given up. It counts as one request.
        """
        start_ns = time.monotonic_ns()
        with self._counting_failures(start_ns), self._inside_until_done():
            answers = await self._execute_parts(inputs, output_names, rows, shapes, limits)
        times = [answer.times for answer in answers]
        begin_ns, end_ns = min(time.start_ns for time in times), max(time.end_ns for time in times)
        whole = Answer(
            outputs=[np.concatenate(pieces) for pieces in zip(*(answer.outputs for answer in answers), strict=True)],
            queue_ns=begin_ns - start_ns,
            times=ExecutionTimes(begin_ns, begin_ns, end_ns, end_ns),
            batch_rows=max(answer.batch_rows for answer in answers),
        )
        self._count_success(rows, start_ns, whole)
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
            self._leave()

    async def _execute_parts(
        self,
        inputs: Mapping[str, Array],
        output_names: tuple[str, ...],
        rows: int,
        shapes: object,
        limits: RequestLimits,
    ) -> list[Answer]:
        size = max(1, self.plan.batching.max_rows, self.plan.part_rows)
        starts = iter(range(0, rows, size))
        answers: dict[int, Answer] = {}

        async def work() -> None:
            for start in starts:
                part = {name: array[start : start + size] for name, array in inputs.items()}
                part_rows = min(size, rows - start)
                answer = await self._execute(part, output_names, part_rows, shapes, limits)
                _check_kept_rows(output_names, answer.outputs, part_rows)
                answers[start] = answer

        tasks = [asyncio.ensure_future(work()) for _ in range(_PARTS_INSIDE * len(self.instances))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [answers[start] for start in sorted(answers)]

    async def _execute(
        self,
        inputs: Mapping[str, Array],
        output_names: tuple[str, ...],
        rows: int,
        shapes: object,
        limits: RequestLimits,
    ) -> Answer:
        """The answer to one request, or to a part of one; nothing is counted but executions."""
        request = self._request(inputs, output_names, rows, shapes, limits)
        self._enter(request)
        timers = self._timers(request) if request.deadline_ns or request.queue_deadline_ns else ()
        try:
            answer: Answer = await request.answer_to
        except asyncio.CancelledError:
            self._give_up(request)
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self._leave()
        return answer

    def _request(
        self,
        inputs: Mapping[str, Array],
        output_names: tuple[str, ...],
        rows: int,
        shapes: object,
        limits: RequestLimits,
    ) -> QueuedRequest:
        now_ns = time.monotonic_ns()
        line = self.plan.line
        timeout_us = line.queue_timeout_us(line.level_of(limits.priority), limits.timeout_us)
        return QueuedRequest(
            inputs,
            output_names,
            rows,
            shapes,
            now_ns,
            self._loop.create_future(),
            size_bytes=sum(_size_bytes(array) for array in inputs.values()),
            priority=limits.priority,
            queue_deadline_ns=now_ns + timeout_us * 1000 if timeout_us else 0,
            deadline_ns=limits.deadline_ns,
        )

    # -- on the way in -------------------------------------------------------------------------------------------

    def _enter(self, request: QueuedRequest) -> None:
        self._in_flight += 1
        self._idle.clear()
        if self._ordered is not None:
            self._ordered.expect(request)
        self._arrivals.append(request)
        if len(self._arrivals) == 1:
            self._loop.call_soon(self._admit_arrivals)

    def _leave(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    def _admit_arrivals(self) -> None:
        """Run what came in this tick right here if that is cheaper than a thread, else let it wait for an instance."""
        arrivals = [request for request in self._arrivals if not request.answer_to.done()]
        self._arrivals = []
        if self._inline_gate is not None and self._runs_inline(arrivals, self._inline_gate):
            self._answer(Outcome(self._run_inline(arrivals, self._inline_gate)))
        elif arrivals:
            for refusal in self._queue.put(arrivals):
                self._refuse(refusal.request, refusal.error)

    def _runs_inline(self, arrivals: Sequence[QueuedRequest], gate: InlineGate) -> bool:
        """Whether nothing waits, the requests fit into one batch, and that batch is cheaper than a hop to a thread."""
        if not arrivals or len(self._queue):
            return False
        rows = arrivals[0].rows
        if len(arrivals) > 1:
            rows = sum(request.rows for request in arrivals)
            if rows > self.plan.batching.max_rows or any(a.shapes != arrivals[0].shapes for a in arrivals):
                return False
        return gate.admits(rows, arrivals[0].enqueued_ns)

    def _run_inline(self, arrivals: Sequence[QueuedRequest], gate: InlineGate) -> Sequence[Execution]:
        running = Running(arrivals, len(arrivals))
        for request in arrivals:
            request.running = running
        executions = execute(self._session, running)
        times = executions[0].times
        gate.observe(executions[0].rows, times.end_ns - times.start_ns, times.end_ns)
        return executions

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

    def _give_up(self, request: QueuedRequest) -> None:
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
        _hand_over(request, error)

    def _complete(self, request: QueuedRequest, answer: Answer | OrtolanError) -> None:
        if self._ordered is None:
            _hand_over(request, answer)
        else:
            self._ordered.complete(request, lambda: _hand_over(request, answer))

    # -- counting ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _counting_failures(self, start_ns: int) -> Iterator[None]:
        """Count what leaves the block by an error, as one request that began at ``start_ns``."""
        try:
            yield
        except asyncio.CancelledError:
            self.statistics.count_failure(time.monotonic_ns() - start_ns, FailureReason.CANCELED)
            raise
        except OrtolanError as error:
            self.statistics.count_failure(time.monotonic_ns() - start_ns, _reason_of(error))
            raise

    def _count_success(self, rows: int, start_ns: int, answer: Answer) -> None:
        self.statistics.count_success(rows, answer.queue_ns, answer.times)
        self.statistics.count_answer(time.monotonic_ns() - start_ns, int(time.time() * 1000))

    def _count_execution(self, execution: Execution) -> None:
        if isinstance(execution.answers[0], OrtolanError):
            return
        self.statistics.count_execution(execution.rows, execution.times)
        if self.plan.curves is not None:
            duration_ns = execution.times.end_ns - execution.times.start_ns
            self.plan.curves.observe(execution.requests[0].row_bytes, execution.rows, duration_ns)

    # -- ending --------------------------------------------------------------------------------------------------

    def fail_running(self, running: Running[QueuedRequest], error: OrtolanError) -> None:
        """Answer every request of an execution that will not end by itself, and try to end it."""
        running.abandon()
        for request in running.requests:
            self._refuse(request, error)

    def refuse_new(self) -> None:
        """Let no further request in; those inside are still answered."""
        self._closing = True
        if not self._in_parts:
            self._close()

    def _close(self) -> None:
        self._admit_arrivals()
        self._inline_gate = None
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
        return all(ended)


def _size_bytes(array: Array) -> int:
    """What the tensor holds; BYTES elements are objects, whose array has only their addresses."""
    if not array.dtype.hasobject:
        return array.nbytes
    return sum(map(len, array.reshape(-1).tolist()))


def _hand_over(request: QueuedRequest, answer: Answer | OrtolanError) -> None:
    """Complete the future that the request's coroutine waits for, unless that has gone."""
    future: asyncio.Future[Answer] = request.answer_to
    if future.done():
        return
    if isinstance(answer, OrtolanError):
        if isinstance(answer, Internal) and answer.__cause__ is not None:
            _log.error("a request failed inside the model", exc_info=answer.__cause__)
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _nothing() -> None:
    """What is released for a request that has lost its place."""


def _reason_of(error: OrtolanError) -> FailureReason:
    if isinstance(error, (QueueFull, RequestTimeout, DeadlineExceeded)):
        return FailureReason.REJECTED
    if isinstance(error, Cancelled):
        return FailureReason.CANCELED
    return FailureReason.OTHER if isinstance(error, Unavailable) else FailureReason.BACKEND


def _check_kept_rows(names: Sequence[str], outputs: Sequence[Array], rows: int) -> None:
    """Raises Internal where the outputs of a part of ``rows`` rows have others, so that it is no part of an answer."""
    for name, output in zip(names, outputs, strict=True):
        if output.shape[:1] != (rows,):
            raise Internal(
                f"output '{name}' has shape {list(output.shape)} for a part of {rows} rows: it does not keep the batch "
                "dimension, so requests to this model cannot be split. Send fewer rows at a time."
            )
