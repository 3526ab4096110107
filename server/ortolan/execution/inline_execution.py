"""Batches that run on the event loop itself, because a hop to an instance's thread and back would cost more."""

from collections.abc import Sequence

from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.instance import Outcome, execute
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.running import Running
from ortolan.execution.session import Session


class InlineExecution:
    """Runs what one tick of the loop brought, if ``gate`` lets it through. Lives on the event loop."""

    def __init__(self, session: Session, gate: InlineGate, max_rows: int, ragged: RaggedForm | None = None) -> None:
        self._session = session
        self._gate = gate
        self._max_rows = max_rows
        self._ragged = ragged

    def takes(self, arrivals: Sequence[QueuedRequest]) -> bool:
        """Whether the requests, of which there is one at least, fit into one batch that is cheaper here."""
        rows = arrivals[0].rows
        if len(arrivals) > 1:
            rows = sum(request.rows for request in arrivals)
            if rows > self._max_rows or any(request.shapes != arrivals[0].shapes for request in arrivals):
                return False
        return self._gate.admits(rows, arrivals[0].enqueued_ns)

    def run(self, arrivals: Sequence[QueuedRequest]) -> Outcome:
        running = Running(arrivals, len(arrivals))
        for request in arrivals:
            request.running = running
        executions = execute(self._session, running, ragged=self._ragged)
        times = executions[0].times
        self._gate.observe(executions[0].rows, times.end_ns - times.start_ns, times.end_ns)
        return Outcome(executions)
