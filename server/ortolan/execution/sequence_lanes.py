"""The lanes of a version's sequences: each runs one batch at a time, on the event loop's orders.

A batch goes, with its control and state tensors, as one request to a ``Scheduler``.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ortolan.errors import Cancelled, Internal, OrtolanError, OutOfMemory, Unavailable
from ortolan.execution.answer import Answer, hand_over
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.sequence_batch import composed, divided
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.sequence_policy import RunRows, decide
from ortolan.execution.sequence_slots import SequenceSlots
from ortolan.execution.sequenced_request import SequenceBatch, SequencedRequest


class SequenceLanes:
    """Runs what waits in ``slots``. Lives on ``loop``."""

    def __init__(
        self,
        scheduler: Scheduler,
        slots: SequenceSlots[SequencedRequest],
        plan: SequencePlan,
        held_until: int,
        advanced: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Nothing runs before ``held_until`` requests wait. ``advanced`` is called after everything that changes."""
        self._scheduler = scheduler
        self._slots = slots
        self._plan = plan
        self._rule = plan.rule
        self._held_until = held_until
        self._advanced = advanced
        self._loop = loop
        self._running: dict[int, SequenceBatch] = {}
        self._touched: dict[int, None] = {}
        self._held_lanes: dict[int, None] = {}
        self._wakes: dict[int, asyncio.TimerHandle] = {}

    def hurry(self) -> None:
        """Let no batch wait any more for requests that may come."""
        self._held_until = 0
        self._rule = replace(self._rule, delay_ns=0)
        self._scheduler.hurry()
        for lane in range(self._slots.lanes_used):
            self.touch(lane)

    def touch(self, lane: int) -> None:
        """Look at ``lane`` once everything that this tick of the loop brings has come; -1 is the backlog."""
        if lane == -1:
            return
        if not self._touched:
            self._loop.call_soon(self._advance)
        self._touched[lane] = None

    def _advance(self) -> None:
        """Run what can run in the lanes where something has changed."""
        lanes, self._touched = self._touched, {}
        if self._slots.waiting < self._held_until:
            self._held_lanes |= lanes
            return
        self._held_until = 0
        lanes, self._held_lanes = self._held_lanes | lanes, {}
        for lane in lanes:
            if lane not in self._running:
                self._advance_lane(lane)
        self._advanced()

    def _advance_lane(self, lane: int) -> None:
        if lane in self._wakes:
            self._wakes.pop(lane).cancel()
        sequences = self._slots.sequences(lane)
        ready = {row: sequence.waiting[0] for row, sequence in sequences.items() if sequence.waiting}
        if not ready:
            return
        now_ns = time.monotonic_ns()
        decision = decide(ready, now_ns, self._rule)
        if isinstance(decision, RunRows):
            self._run_rows(lane, decision.rows)
        else:
            delay_s = (decision.time_ns - now_ns) / 1e9
            self._wakes[lane] = self._loop.call_later(delay_s, self.touch, lane)

    def _run_rows(self, lane: int, rows: Iterable[int]) -> None:
        sequences = self._slots.sequences(lane)
        members = {row: self._slots.take(sequences[row]) for row in rows}
        batch = self._running[lane] = SequenceBatch(lane, members, max(sequences) + 1)
        for row, request in members.items():
            request.batch = batch
            if request.terms.start:
                sequences[row].state = self._plan.initial
        batch.task = self._loop.create_task(self._answer(members, batch.span))
        # Not the task's own doing: one that is cancelled before it began does nothing at all.
        batch.task.add_done_callback(lambda _: self._end_batch(batch))

    def _end_batch(self, batch: SequenceBatch) -> None:
        del self._running[batch.lane]
        now_ns = time.monotonic_ns()
        for request in batch.members.values():
            request.batch = None
            if request.sequence is not None:
                self._slots.done(request.sequence, now_ns)
        self.touch(batch.lane)

    async def _answer(self, requests: Mapping[int, SequencedRequest], span: int) -> None:
        """Run ``requests`` as one batch; if that fails, each alone, so that only the culprit's request fails."""
        members = {row: request.member for row, request in requests.items()}
        try:
            formed = composed(members, span, self._plan)
            answer = await self._scheduler.execute(formed)
            parts = divided(answer.outputs, formed.output_names, members, span, self._plan)
        except OrtolanError as error:
            await self._answer_failed(requests, span, error)
            return
        # A failed batch fails each of its requests; the lane lives on.
        except Exception as error:
            failure = Internal("the server failed to run this request; its log has the details")
            failure.__cause__ = error
            await self._answer_failed(requests, span, failure)
            return
        for row, request in requests.items():
            if request.sequence is not None:
                request.sequence.state = parts[row].state
            queue_ns = answer.times.start_ns - request.enqueued_ns
            hand_over(request.answer_to, Answer(parts[row].outputs, queue_ns, answer.times, answer.batch_rows))

    async def _answer_failed(self, requests: Mapping[int, SequencedRequest], span: int, error: OrtolanError) -> None:
        """A batch that was ended from outside is not tried again."""
        ended = isinstance(error, (Cancelled, Unavailable)) and not isinstance(error, OutOfMemory)
        alone = len(requests) == 1 or ended
        for row, request in requests.items():
            if alone:
                hand_over(request.answer_to, error)
            elif not request.answer_to.done():
                await self._answer({row: request}, span)
