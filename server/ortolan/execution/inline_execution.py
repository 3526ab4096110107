"""Batches that run on the event loop itself, because a hop to an instance's thread and back would cost more."""

import time
from collections.abc import Sequence

from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.instance import Execution, execute
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.running import Running
from ortolan.execution.session import Session

# One tick may bring more than a batch holds; the loop is not held up for longer than this by all of it.
_BATCHES_OF_A_TICK = 8


class InlineExecution:
    """Runs what one tick of the loop brought, as far as ``gate`` lets it through. Lives on the event loop."""

    def __init__(self, session: Session, gate: InlineGate, max_rows: int, ragged: RaggedForm | None = None) -> None:
        self._session = session
        self._gate = gate
        self._max_rows = max_rows
        self._ragged = ragged
        self._was_slow = False
        self.spent_ns = 0
        """How long runs took here."""

    def first_batch(self, arrivals: Sequence[QueuedRequest]) -> int:
        """How many of the requests, from the first on, may run here as one batch; 0: none, a thread is better.

        What takes too long as one batch may run as several, which costs less than a hop still.
        """
        first = arrivals[0]
        rows = first.rows
        count = 1
        for request in arrivals[1:]:
            if rows + request.rows > self._max_rows or request.shapes != first.shapes:
                break
            rows += request.rows
            count += 1
        if rows > self._max_rows:
            return 0
        while not self._gate.admits(rows, first.enqueued_ns):
            count //= 2
            if not count:
                return 0
            rows = sum([request.rows for request in arrivals[:count]])
        return count

    def run(self, arrivals: list[QueuedRequest]) -> list[Execution]:
        """Run what may run here, and take it out of ``arrivals``."""
        executions: list[Execution] = []
        for _ in range(_BATCHES_OF_A_TICK):
            count = self.first_batch(arrivals)
            if not count:
                break
            executions += self._run(arrivals if count == len(arrivals) else arrivals[:count])
            del arrivals[:count]
            if not arrivals:
                break
        return executions

    def _run(self, requests: Sequence[QueuedRequest]) -> Sequence[Execution]:
        requests = tuple(requests)
        running = Running(requests, len(requests))
        for request in requests:
            request.running = running
        # To ask for the processor's time takes as long as a tenth of a small run: only after one that was slow.
        begin_ns = time.thread_time_ns() if self._was_slow else 0
        executions = execute(self._session, running, ragged=self._ragged, ends_by_itself=True)
        times = executions[0].times
        duration_ns = times.end_ns - times.start_ns
        self.spent_ns += duration_ns
        used_ns = time.thread_time_ns() - begin_ns if begin_ns else min(duration_ns, self._gate.limit_ns)
        self._was_slow = duration_ns > self._gate.limit_ns
        self._gate.observe(executions[0].rows, duration_ns, used_ns, times.end_ns)
        return executions
