"""A request that no coroutine waits for: who asked is told of its answer at once, on the loop, by a call."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ortolan.errors import Cancelled, Internal, OrtolanError
from ortolan.execution.answer import Answer, log_failure
from ortolan.execution.queued_request import QueuedRequest
from ortolan.execution.request_counts import count_failure, count_success
from ortolan.inference.datatypes import Array

if TYPE_CHECKING:
    from ortolan.execution.scheduler import Scheduler

_log = logging.getLogger(__name__)
_GONE = Cancelled("no one waits for the answer any more")


class Asker(Protocol):
    """Who is told, exactly once."""

    def answered(self, answer: Answer) -> None: ...

    def refused(self, error: OrtolanError) -> None: ...


@dataclass(slots=True)
class DirectTerms:
    """What requests of one form have in common; names and id are for the log."""

    output_names: tuple[str, ...]
    rows: int
    shapes: object
    size_bytes: int
    timeout_ns: int
    """How long they may wait in the queue; 0 for as long as it takes."""
    model_name: str
    version: str
    request_id: str


class DirectRequest(QueuedRequest):
    """The request and, with the face of a future, what the scheduler hands its answer to."""

    __slots__ = ("_asker", "_scheduler", "_terms", "timers")

    def __init__(
        self,
        scheduler: "Scheduler",
        asker: Asker,
        terms: DirectTerms,
        inputs: Mapping[str, Array],
        now_ns: int,
        deadline_ns: int,
    ) -> None:
        self.inputs = inputs
        self.output_names = terms.output_names
        self.rows = terms.rows
        self.shapes = terms.shapes
        self.enqueued_ns = now_ns
        self.answer_to = self
        self.size_bytes = terms.size_bytes
        self.priority = 0
        self.queue_deadline_ns = now_ns + terms.timeout_ns if terms.timeout_ns else 0
        self.deadline_ns = deadline_ns
        self.running = None
        self.waiting = False
        self.timers: list[asyncio.TimerHandle] | None = None
        self._asker: Asker | None = asker
        self._terms = terms
        self._scheduler: Scheduler | None = scheduler

    def cancel(self) -> None:
        """Who asked has gone, and is told nothing any more."""
        if self._asker is not None:
            _, scheduler = self._end()
            scheduler.give_up(self)
            count_failure(scheduler.statistics, self.enqueued_ns, _GONE)

    # What the scheduler does

    def done(self) -> bool:
        return self._asker is None

    def set_result(self, answer: Answer) -> None:
        asker, scheduler = self._end()
        count_success(scheduler.statistics, self.rows, self.enqueued_ns, answer)
        try:
            asker.answered(answer)
        # The answers of others come after this one.
        except Exception:
            _log.exception("an answer could not be handed to its client")

    def set_exception(self, error: OrtolanError) -> None:
        asker, scheduler = self._end()
        count_failure(scheduler.statistics, self.enqueued_ns, error)
        if isinstance(error, Internal):
            log_failure(error, self._terms.model_name, self._terms.version, self._terms.request_id)
        try:
            asker.refused(error)
        except Exception:
            _log.exception("a refusal could not be handed to its client")

    def _end(self) -> "tuple[Asker, Scheduler]":
        """Refer to nobody any more, so that nothing waits for the garbage collector. Returns whom it referred to."""
        asker, scheduler = self._asker, self._scheduler
        assert asker is not None and scheduler is not None  # noqa: S101, PT018 - what is done is not ended again
        self._asker = None
        self._scheduler = None
        self.answer_to = _ENDED
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
        scheduler.left()
        return asker, scheduler


class _Ended:
    """In the place of a future that is done."""

    def done(self) -> bool:
        return True


_ENDED = _Ended()
