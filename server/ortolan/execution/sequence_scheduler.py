"""One version's sequences, seen from asyncio: beside ``Scheduler``, with the same face, and in front of one.

Everything here lives on the event loop. Who has which slot is decided by ``sequence_slots``, which rows run by
``sequence_policy``; ``sequence_lanes`` sends a batch of them as one request to a ``Scheduler``, whose queue, instances
and watchdog serve it like any other. A request has a future of its own, so that its end does not depend on its batch's.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from ortolan.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    OrtolanError,
    QueueFull,
    RequestTimeout,
    Unavailable,
)
from ortolan.execution.answer import Answer, hand_over
from ortolan.execution.batch_policy import Batching
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.graph_request import GraphRequest, SequenceId, SequenceTerms
from ortolan.execution.instance import Instance
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.request_counts import count_success, counting_failures
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.running import Running
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.sequence_controls import check_id
from ortolan.execution.sequence_lanes import SequenceLanes
from ortolan.execution.sequence_slots import SequenceSlots, shown_id
from ortolan.execution.sequenced_request import SequencedRequest, lost_with
from ortolan.execution.session import Session

_log = logging.getLogger(__name__)
# Timers count whole milliseconds and may fire early; after this one a time is certainly over.
_CERTAINLY_S = 0.002
_LONGEST_TIMER_S = 3600.0
_NO_LIMIT = 1 << 62


class SequenceScheduler:
    """Answers the requests of one loaded version whose configuration has ``sequence_batching``."""

    def __init__(
        self,
        name: str,
        sessions: Sequence[tuple[str, Session, DeviceShare]],
        plan: SchedulingPlan,
        limits: QueueLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """As ``Scheduler``; ``plan.sequences`` is given."""
        if plan.sequences is None:
            raise ValueError("the plan has no sequences")
        self.plan = plan
        self._name = name
        self._sequences = plan.sequences
        self._limits = limits
        self._loop = loop
        own = replace(plan, batching=Batching(reason=plan.batching.reason)) if self._sequences.direct else plan
        self._scheduler = Scheduler(name, sessions, own, QueueLimits(_NO_LIMIT, _NO_LIMIT), loop)
        self._slots: SequenceSlots[SequencedRequest] = SequenceSlots(
            name, self._sequences.lanes, self._sequences.rule.rows, self._sequences.max_idle_ns
        )
        self._lanes = SequenceLanes(
            self._scheduler, self._slots, self._sequences, limits.hold_until, self._watch_idle, loop
        )
        self._reclaiming: asyncio.TimerHandle | None = None
        self._in_flight = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._fewer = asyncio.Event()

    def start(self) -> None:
        self._scheduler.start()

    @property
    def statistics(self) -> ModelStatistics:
        return self._scheduler.statistics

    @property
    def instances(self) -> Sequence[Instance]:
        return self._scheduler.instances

    @property
    def waiting_requests(self) -> int:
        return self._slots.waiting + self._scheduler.waiting_requests

    @property
    def oldest_ns(self) -> int:
        """As ``Scheduler.oldest_ns``."""
        waiting = [request.enqueued_ns for request in self._slots.waiting_requests()]
        return min(filter(None, (*waiting, self._scheduler.oldest_ns)), default=0)

    @property
    def inline_ns(self) -> int:
        return self._scheduler.inline_ns

    @property
    def in_flight_requests(self) -> int:
        """Requests that wait or run."""
        return self._in_flight

    @property
    def live_sequences(self) -> int:
        """Sequences that have started and have not ended."""
        return self._slots.live

    async def infer(self, request: GraphRequest) -> Answer:
        """The outputs of one request, in the order in which it names them.

        Raises InvalidArgument for a request that is not one of a sequence that has started, Cancelled when one before
        it in its sequence was given up, and otherwise as ``Scheduler.infer``. Cancelling the caller ends the sequence.
        """
        start_ns = time.monotonic_ns()
        with counting_failures(self.statistics, start_ns):
            answer = await self._execute(request)
        count_success(self.statistics, request.rows, start_ns, answer)
        return answer

    async def infer_in_parts(self, request: GraphRequest) -> Answer:
        """As ``infer``, which refuses what has more than one row."""
        return await self.infer(request)

    async def _execute(self, asked: GraphRequest) -> Answer:
        request = self._admitted(asked)
        self._in_flight += 1
        self._idle.clear()
        timers = self._timers(request)
        try:
            return await request.answer_to
        except asyncio.CancelledError:
            # Unless the answer was there already, and only its client went.
            if request.answer_to.cancelled():
                self._lose(request, Cancelled("no one waited for the answer any more"))
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self._leave()

    # -- on the way in -----------------------------------------------------------------------------------------------

    def _admitted(self, asked: GraphRequest) -> SequencedRequest:
        terms = self._checked_terms(asked)
        self._refuse_where_full(asked.size_bytes)
        now_ns = time.monotonic_ns()
        self._reclaim(now_ns)
        if terms.start and self._slots.is_live(terms.id):
            told = "sequence %s of model '%s' starts anew before it ended: what it kept until now is given up"
            _log.warning(told, shown_id(terms.id), self._name)
        request = SequencedRequest(
            asked, terms, self._loop.create_future(), now_ns, asked.size_bytes, plan=self._sequences
        )
        request.sequence = self._slots.admit(request)
        self._lanes.touch(request.sequence.lane)
        return request

    def _checked_terms(self, asked: GraphRequest) -> SequenceTerms:
        if self._closing:
            raise Unavailable("Server is stopping, scheduler for model has stopped accepting new inference requests")
        if asked.rows > 1:
            raise InvalidArgument(
                f"inference request to model '{self._name}' must specify batch-size 1 due to requirements of sequence "
                f"batcher; got {asked.rows}"
            )
        if asked.sequence is None:
            raise InvalidArgument(
                f"inference request to model '{self._name}' must specify a non-zero or non-empty correlation ID: set "
                "the request parameter 'sequence_id'"
            )
        check_id(self._sequences.controls, asked.sequence.id)
        return asked.sequence

    def _refuse_where_full(self, size_bytes: int) -> None:
        count, waiting_bytes, limits = self._slots.waiting, self._slots.waiting_bytes, self._limits
        if count >= limits.max_requests:
            raise QueueFull(f"Exceeds maximum queue size: {count} requests wait already. Retry later.")
        if count and waiting_bytes + size_bytes > limits.max_bytes:
            raise QueueFull(
                f"Exceeds maximum queue size: the tensors that wait hold {waiting_bytes} bytes already and may "
                f"hold {limits.max_bytes}. Retry later."
            )

    def _leave(self) -> None:
        self._fewer.set()
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()
            self._close_if_over()

    # -- time --------------------------------------------------------------------------------------------------------

    def _timers(self, request: SequencedRequest) -> list[asyncio.TimerHandle]:
        """What ends the request's waiting when one of its times is over."""
        limits = request.asked.limits
        timers: list[asyncio.TimerHandle] = []
        if limits.deadline_ns:
            delay_s = max(0.0, (limits.deadline_ns - request.enqueued_ns) / 1e9)
            timers.append(self._loop.call_later(delay_s, self._on_deadline, request))
        timeout_us = self.plan.line.queue_timeout_us(self.plan.line.level_of(limits.priority), limits.timeout_us)
        if timeout_us:
            timers.append(self._loop.call_later(timeout_us / 1e6 + _CERTAINLY_S, self._on_queue_timeout, request))
        return timers

    def _on_deadline(self, request: SequencedRequest) -> None:
        if not request.answer_to.done():
            self._lose(request, DeadlineExceeded("the request's deadline passed before its answer was ready"))

    def _on_queue_timeout(self, request: SequencedRequest) -> None:
        if request.answer_to.done() or request.batch is not None or request.sequence is None:
            return
        in_backlog = request.sequence.lane == -1
        text = "timeout of the corresponding sequence has been expired" if in_backlog else "Request timeout expired"
        self._lose(request, RequestTimeout(text))

    def _watch_idle(self) -> None:
        """Have a timer for the sequence that will have been idle for too long first."""
        expiry_ns = self._slots.next_expiry_ns
        if self._reclaiming is None and expiry_ns is not None:
            delay_s = max(0.0, (expiry_ns - time.monotonic_ns()) / 1e9) + _CERTAINLY_S
            self._reclaiming = self._loop.call_later(min(delay_s, _LONGEST_TIMER_S), self._on_idle)

    def _on_idle(self) -> None:
        self._reclaiming = None
        self._reclaim(time.monotonic_ns())
        self._fewer.set()
        self._watch_idle()

    def _reclaim(self, now_ns: int) -> None:
        for sequence in self._slots.reclaim(now_ns):
            _log.debug("sequence %s of model '%s' was idle for too long", shown_id(sequence.id), self._name)
            self._lanes.touch(sequence.lane)

    # -- giving up ---------------------------------------------------------------------------------------------------

    def _lose(self, request: SequencedRequest, error: OrtolanError) -> None:
        """End ``request`` with ``error`` and its sequence with it; a run that no one wants any more is ended."""
        hand_over(request.answer_to, error)
        sequence, batch = request.sequence, request.batch
        if sequence is None:
            return
        for lost in self._slots.lose(sequence, request, time.monotonic_ns()):
            hand_over(lost.answer_to, lost_with(error, sequence.id))
        if batch is not None:
            batch.end_if_unwanted()
        self._lanes.touch(sequence.lane)

    def fail_running(self, running: Running[QueuedRequest], error: OrtolanError) -> None:
        """Answer every request of an execution that will not end by itself, and try to end it."""
        self._scheduler.fail_running(running, error)

    def refuse_waiting(self, error: OrtolanError) -> None:
        """End everything that waits with ``error``, and its sequences with it: there is nobody to run it."""
        self._scheduler.refuse_waiting(error)
        for request in self._slots.waiting_requests():
            self._lose(request, error)

    # -- ending ------------------------------------------------------------------------------------------------------

    def has_open(self, sequence_id: SequenceId) -> bool:
        """Whether further requests with this id belong to a sequence that has started."""
        return self._slots.is_live(sequence_id)

    async def sequences_ended(self) -> None:
        """Return once no sequence is open: each has had its end, or was idle for too long."""
        while self._slots.live:
            self._fewer.clear()
            await self._fewer.wait()

    def refuse_new(self) -> None:
        """Let no further request in; those inside are still answered, also those that wait for a slot."""
        self._closing = True
        self._slots.close_all(time.monotonic_ns())
        self._lanes.hurry()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if not self._closing or self._in_flight:
            return
        self._scheduler.refuse_new()
        if self._reclaiming is not None:
            self._reclaiming.cancel()

    async def drained(self) -> None:
        """Return once no request waits or runs."""
        await self._idle.wait()
        await self._scheduler.drained()

    def join(self, timeout_s: float) -> bool:
        """Wait for the instances' threads to end. False if one of them is still busy after ``timeout_s``."""
        return self._scheduler.join(timeout_s)


AnyScheduler = Scheduler | SequenceScheduler


def scheduler_for(
    name: str,
    sessions: Sequence[tuple[str, Session, DeviceShare]],
    plan: SchedulingPlan,
    limits: QueueLimits,
    loop: asyncio.AbstractEventLoop,
) -> AnyScheduler:
    """The scheduler that ``plan`` asks for."""
    kind = Scheduler if plan.sequences is None else SequenceScheduler
    return kind(name, sessions, plan, limits, loop)
