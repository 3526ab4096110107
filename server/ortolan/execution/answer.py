"""The answer to one request, and handing it to the coroutine that waits for it."""

import asyncio
import logging
from dataclasses import dataclass

from ortolan.errors import Internal, OrtolanError
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import Array
from ortolan.inference.printable import printable

_log = logging.getLogger(__name__)
_LONGEST_ID = 128
_LONGEST_TEXT = 1000


@dataclass(slots=True)
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
        future.set_exception(answer)
    else:
        future.set_result(answer)


def log_failure(error: Internal, model_name: str, version: str, request_id: str) -> None:
    """Tell the operator in one line of a request that failed inside its model; where it did, at debug."""
    cause = error.__cause__
    if cause is None:
        return
    text = printable(f"{type(cause).__name__}: {cause}", _LONGEST_TEXT)
    who = f" '{printable(request_id, _LONGEST_ID)}'" if request_id else ""
    _log.error("model '%s' version %s failed to run request%s: %s", model_name, version, who, text)
    _log.debug("where it failed", exc_info=cause)
