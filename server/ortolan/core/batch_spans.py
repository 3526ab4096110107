"""The executions that traced requests were part of: one span each, with links to the requests.

A batch belongs to the trace of none of its members, so it has one of its own. Who was in it is known only as each of
them gets its answer: those of one execution are told the same times, as one object, by which they find together here.
That costs a request that is not traced nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ortolan.core.span import Attributes, Span
from ortolan.core.span_ids import SpanIds
from ortolan.core.trace_context import TraceContext
from ortolan.execution.model_statistics import ExecutionTimes

# The members of a batch get their answers in one turn of the loop, unless some wait for those of others before them.
_GATHERING_S = 0.25
_MOST_LINKS = 128
"""As many as OpenTelemetry allows a span where nobody says otherwise."""

Later = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True)
class _Batch:
    times: ExecutionTimes
    rows: int
    model_name: str
    model_version: int
    context: TraceContext
    epoch_ns: int
    members: list[TraceContext] = field(default_factory=list)


class Batches:
    """Those whose members may still come. Lives on the event loop."""

    def __init__(self, ids: SpanIds, emit: Callable[[Span], None], later: Later | None = None) -> None:
        """``emit`` gets each span when its members are together; ``later`` calls after so many seconds."""
        self._ids = ids
        self._emit = emit
        self._later = later or _on_loop
        # By the identity of their times, which stay with them, so that no other object has it meanwhile.
        self._open: dict[int, _Batch] = {}

    def joined(
        self, times: ExecutionTimes, rows: int, name: str, version: int, member: TraceContext, epoch_ns: int
    ) -> TraceContext:
        """The span of the execution with these ``times``, which the request ``member`` was part of."""
        batch = self._open.get(id(times))
        if batch is None:
            batch = self._open[id(times)] = _Batch(times, rows, name, version, self._ids.next_trace(), epoch_ns)
            self._later(_GATHERING_S, lambda: self._end(id(times)))
        batch.members.append(member)
        return batch.context

    def close(self) -> None:
        """Nobody will come any more."""
        for key in tuple(self._open):
            self._end(key)

    def _end(self, key: int) -> None:
        batch = self._open.pop(key, None)
        if batch is not None:
            self._emit(_span_of(batch))


def _on_loop(delay_s: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, call)


def _span_of(batch: _Batch) -> Span:
    attributes: Attributes = {
        "triton.model_name": batch.model_name,
        "triton.model_version": batch.model_version,
        "ortolan.batch.rows": batch.rows,
        "ortolan.batch.traced_requests": len(batch.members),
    }
    return Span(
        "batch",
        batch.context,
        None,
        batch.times.start_ns + batch.epoch_ns,
        batch.times.end_ns + batch.epoch_ns,
        attributes,
        links=batch.members[:_MOST_LINKS],
    )
