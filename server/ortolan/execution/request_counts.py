"""Each request counted once, as it ends: answered, or failed for one of Triton's reasons."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

from ortolan.errors import Cancelled, DeadlineExceeded, OrtolanError, QueueFull, RequestTimeout, Unavailable
from ortolan.execution.answer import Answer
from ortolan.execution.model_statistics import FailureReason, ModelStatistics


@contextlib.contextmanager
def counting_failures(statistics: ModelStatistics, start_ns: int) -> Iterator[None]:
    """Count what leaves the block by an error, as one request that began at ``start_ns``."""
    try:
        yield
    except (asyncio.CancelledError, OrtolanError) as error:
        count_failure(statistics, start_ns, error)
        raise


def count_failure(statistics: ModelStatistics, start_ns: int, error: asyncio.CancelledError | OrtolanError) -> None:
    """One request that began at ``start_ns`` and ended by ``error``."""
    reason = reason_of(error) if isinstance(error, OrtolanError) else FailureReason.CANCELED
    statistics.count_failure(time.monotonic_ns() - start_ns, reason)


def count_success(statistics: ModelStatistics, rows: int, start_ns: int, answer: Answer) -> None:
    """One request of ``rows`` rows that began at ``start_ns`` and has its answer now."""
    duration_ns = time.monotonic_ns() - start_ns
    statistics.count_answered(rows, answer.queue_ns, answer.times, duration_ns, int(time.time() * 1000))


def reason_of(error: OrtolanError) -> FailureReason:
    """Whose doing the failure is: the queue's policy, the client's, the server's as a whole, or the model's."""
    if isinstance(error, (QueueFull, RequestTimeout, DeadlineExceeded)):
        return FailureReason.REJECTED
    if isinstance(error, Cancelled):
        return FailureReason.CANCELED
    return FailureReason.OTHER if isinstance(error, Unavailable) else FailureReason.BACKEND
