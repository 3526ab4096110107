"""Traces as OpenTelemetry's spans, made of what is known of a request once it has been answered."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ortolan.core.batch_spans import Batches, Later
from ortolan.core.frontend_trace import FrontendTrace
from ortolan.core.request_spans import spans_of
from ortolan.core.span import Span
from ortolan.core.span_ids import SpanIds
from ortolan.core.span_trace import SpanTrace
from ortolan.core.trace import Trace
from ortolan.core.trace_settings import TENSORS, TraceSettings
from ortolan.inference.request import InferenceRequest


class SpanReceiver(Protocol):
    """Takes spans that have ended."""

    def put(self, spans: Sequence[Span]) -> None: ...

    def close(self) -> None:
        """Return when they have been sent, or when that takes too long."""


class SpanTraces:
    """A sink whose traces are sent. Lives on the event loop."""

    follows_callers = True
    tells_of_refusals = True

    def __init__(self, receiver: SpanReceiver, ids: SpanIds | None = None, later: Later | None = None) -> None:
        """``later``: see ``Batches``."""
        self._receiver = receiver
        self._ids = ids or SpanIds()
        self._batches = Batches(self._ids, lambda span: receiver.put((span,)), later)

    def begun(
        self, request: InferenceRequest, version: int, settings: TraceSettings, frontend: FrontendTrace | None
    ) -> Trace:
        """Its caller's span is the parent of its own where the headers named one."""
        parent = frontend.parent if frontend is not None else None
        span = self._ids.next_trace() if parent is None else parent.child(self._ids.next_span())
        now_ns = time.monotonic_ns()
        trace = SpanTrace(
            id=0,
            model_name=request.model_name,
            model_version=version,
            request_id=request.id,
            parameters={},
            with_times=True,
            with_tensors=TENSORS in settings.level,
            request=span,
            span=span.child(self._ids.next_span()),
            parent=parent,
            epoch_ns=time.time_ns() - now_ns,
            ids=self._ids,
            batches=self._batches,
            frontend=frontend,
        )
        if frontend is not None:
            frontend.span = span
            frontend.begin(trace)
        trace.at("REQUEST_START", now_ns)
        return trace

    def keeper(self, settings: TraceSettings) -> Callable[[Trace], None]:  # noqa: ARG002 - all go the same way
        return self._keep

    def _keep(self, trace: Trace) -> None:
        if isinstance(trace, SpanTrace):
            self._receiver.put(spans_of(trace))

    def close(self) -> None:
        self._batches.close()
        self._receiver.close()
