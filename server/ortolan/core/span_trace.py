"""The trace of one request that will be told as spans: what each of its models did, when, and in which batches."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ortolan.core.batch_spans import Batches
from ortolan.core.frontend_trace import FrontendTrace
from ortolan.core.span_ids import SpanIds
from ortolan.core.trace import Trace
from ortolan.core.trace_context import TraceContext
from ortolan.errors import OrtolanError
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.execution.request_counts import reason_of
from ortolan.execution.request_parts import JoinedTimes

_LONGEST_MESSAGE = 1024
# Of a request that was run in parts: each is two spans.
MOST_RUNS = 32


class Failure(NamedTuple):
    """Why there is no answer."""

    kind: str
    """One of the kinds of ``errors.py``."""
    message: str
    """As the client was told it."""
    outcome: str
    """``rejected``, ``canceled``, ``backend`` or ``other``."""


class Run(NamedTuple):
    """An execution that the request was part of."""

    times: ExecutionTimes
    batch_rows: int
    batch: TraceContext
    """The span of the execution."""


@dataclass(slots=True, kw_only=True)
class SpanTrace(Trace):
    """What one model does for a request; of an ensemble, with what its steps do.

    Times of the monotonic clock become Unix times by adding ``epoch_ns``.
    """

    request: TraceContext
    """The span of the whole request."""
    span: TraceContext
    """The span of this model."""
    parent: TraceContext | None
    """The caller's span, above that of the request; None where nobody said."""
    epoch_ns: int
    ids: SpanIds
    batches: Batches
    frontend: FrontendTrace | None = None
    failure: Failure | None = None
    queue_ns: int = 0
    runs: list[Run] = field(default_factory=list)
    """The first ``MOST_RUNS`` of them."""
    run_count: int = 0
    steps: list["SpanTrace"] = field(default_factory=list)

    @property
    def came_from_cache(self) -> bool:
        """Whether there is an answer for which nothing ran."""
        return self.failure is None and not self.run_count and not self.steps

    def executed(self, queue_ns: int, times: ExecutionTimes, batch_rows: int) -> None:
        self.queue_ns = queue_ns
        runs = times.parts if isinstance(times, JoinedTimes) else ((times, batch_rows),)
        self.run_count = len(runs)
        for run, rows in runs[:MOST_RUNS]:
            batch = self.batches.joined(run, rows, self.model_name, self.model_version, self.request, self.epoch_ns)
            self.runs.append(Run(run, rows, batch))

    def walked(self, queue_ns: int, times: ExecutionTimes) -> None:
        """Its steps have told what they did."""

    @contextlib.contextmanager
    def step(self, model_name: str, model_version: int) -> Iterator[Trace | None]:
        step = SpanTrace(
            id=self.id,
            model_name=model_name,
            model_version=model_version,
            request_id="",
            parameters={},
            with_times=True,
            with_tensors=self.with_tensors,
            request=self.request,
            span=self.span.child(self.ids.next_span()),
            parent=None,
            epoch_ns=self.epoch_ns,
            ids=self.ids,
            batches=self.batches,
        )
        self.steps.append(step)
        step.at("REQUEST_START", time.monotonic_ns())
        try:
            yield step
        except BaseException as error:
            step.failed(error)
            raise
        finally:
            step.at("REQUEST_END", time.monotonic_ns())

    def failed(self, error: BaseException) -> None:
        if isinstance(error, OrtolanError):
            outcome = reason_of(error).value.lower()
            self.failure = Failure(type(error).__name__, error.message[:_LONGEST_MESSAGE], outcome)
        elif isinstance(error, asyncio.CancelledError):
            self.failure = Failure("Cancelled", "no one waited for the answer any more", "canceled")
        else:
            self.failure = Failure("Internal", "the server failed; its log has the details", "backend")
