"""One version's queue and instances, seen from asyncio.

Instances are threads; the statistics and every waiting coroutine belong to the event loop. Each batch crosses over in
one ``call_soon_threadsafe``, however many requests it answers.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from ortolan.errors import Internal, OrtolanError, QueueFull
from ortolan.execution.batch_policy import Batching
from ortolan.execution.instance import Execution, Instance
from ortolan.execution.model_statistics import FailureReason, ModelStatistics
from ortolan.execution.request_queue import QueuedRequest, RequestQueue
from ortolan.execution.session import Session
from ortolan.inference.datatypes import Array

_log = logging.getLogger(__name__)


class Scheduler:
    """Answers the requests of one loaded version. Everything but the instances' threads lives on ``loop``."""

    def __init__(
        self,
        sessions: Sequence[tuple[str, Session]],
        batching: Batching,
        queue_capacity: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """``sessions``: the name and the session of each instance; several may share one session."""
        self.statistics = ModelStatistics()
        self._loop = loop
        self._queue = RequestQueue(batching, queue_capacity)
        self._instances = [Instance(name, session, self._queue, self._cross_over) for name, session in sessions]
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        for instance in self._instances:
            instance.start()

    @property
    def waiting_requests(self) -> int:
        return len(self._queue)

    @property
    def in_flight_requests(self) -> int:
        """Requests that wait or run."""
        return self._in_flight

    async def infer(
        self, inputs: Mapping[str, Array], output_names: tuple[str, ...], rows: int, shapes: object
    ) -> list[Array]:
        """The outputs of one request, in the order of ``output_names``.

        ``shapes`` is equal for requests that may share a batch. Raises QueueFull, Unavailable, or what the model's run
        raised. Cancelling the caller takes the request out of the queue.
        """
        start_ns = time.monotonic_ns()
        future: asyncio.Future[list[Array]] = self._loop.create_future()
        request = QueuedRequest(inputs, output_names, rows, shapes, start_ns, future)
        self._enter()
        try:
            self._queue.put(request)
            outputs = await future
        except asyncio.CancelledError:
            self._queue.remove(request)
            self._count_failure(start_ns, FailureReason.CANCELED)
            raise
        except OrtolanError as error:
            self._count_failure(start_ns, _reason_of(error, admitted=future.done()))
            raise
        finally:
            self._leave()
        self.statistics.count_answer(time.monotonic_ns() - start_ns, int(time.time() * 1000))
        return outputs

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    def _count_failure(self, start_ns: int, reason: FailureReason) -> None:
        self.statistics.count_failure(time.monotonic_ns() - start_ns, reason)

    def _cross_over(self, executions: list[Execution]) -> None:
        """In an instance's thread: hand what it ran to the loop."""
        try:
            self._loop.call_soon_threadsafe(self._answer, executions)
        except RuntimeError:
            _log.debug("the event loop is gone; an execution's answers have no one to go to")

    def _answer(self, executions: list[Execution]) -> None:
        """On the loop: complete each request of the executions, exactly once."""
        for execution in executions:
            self._count_execution(execution)
            for request, answer in zip(execution.requests, execution.answers, strict=True):
                future: asyncio.Future[list[Array]] = request.answer_to
                if future.done():
                    continue
                if isinstance(answer, OrtolanError):
                    if isinstance(answer, Internal) and answer.__cause__ is not None:
                        _log.error("a request failed inside the model", exc_info=answer.__cause__)
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _count_execution(self, execution: Execution) -> None:
        if isinstance(execution.answers[0], OrtolanError):
            return
        self.statistics.count_execution(execution.rows, execution.times)
        for request in execution.requests:
            if not request.answer_to.done():
                queue_ns = execution.times.start_ns - request.enqueued_ns
                self.statistics.count_success(request.rows, queue_ns, execution.times)

    def refuse_new(self) -> None:
        """Let no further request in; those inside are still answered."""
        self._queue.close()

    async def drained(self) -> None:
        """Return once no request waits or runs."""
        await self._idle.wait()

    def join(self, timeout_s: float) -> bool:
        """Wait for the instances' threads to end. False if one of them is still busy after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        ended = [instance.join(max(0.0, deadline - time.monotonic())) for instance in self._instances]
        return all(ended)


def _reason_of(error: OrtolanError, admitted: bool) -> FailureReason:
    if isinstance(error, QueueFull):
        return FailureReason.REJECTED
    return FailureReason.BACKEND if admitted else FailureReason.OTHER
