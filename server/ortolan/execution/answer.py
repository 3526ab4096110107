"""The answer to one request, and handing it to the coroutine that waits for it."""

import asyncio
import logging
from dataclasses import dataclass

from ortolan.errors import Internal, OrtolanError
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import Array

_log = logging.getLogger(__name__)


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


def hand_over(future: asyncio.Future[Answer], answer: Answer | OrtolanError) -> None:
    """Complete the future that the request's coroutine waits for, unless that has gone."""
    if future.done():
        return
    if isinstance(answer, OrtolanError):
        if isinstance(answer, Internal) and answer.__cause__ is not None:
            _log.error("a request failed inside the model", exc_info=answer.__cause__)
        future.set_exception(answer)
    else:
        future.set_result(answer)
