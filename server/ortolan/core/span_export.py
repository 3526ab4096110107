"""Our spans into OpenTelemetry's SDK, which batches and sends them in its own thread. The only module that imports it.

A receiver that is down or slow costs spans, which are counted and told of once a minute at most, and never a request's
time: a span that finds the queue full is dropped there and then. The SDK and its exporters write log lines of their own
for each attempt, and some with the values of headers: they are kept from the log, and only what cannot be a secret is
told of them.
"""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from ortolan import __version__
from ortolan.core.opentelemetry_config import GRPC, OpenTelemetryOptions
from ortolan.core.span import Span
from ortolan.core.span_losses import SpanLosses
from ortolan.core.trace_config import FLAG
from ortolan.core.trace_context import TraceContext
from ortolan.errors import StartupError

# What waits is sent within this at the end, or lost.
_LONGEST_CLOSING_S = 3.0
# And what it sends with, which would log the whole address.
_SDK_LOGGERS = ("opentelemetry", "urllib3")
_NOT_INSTALLED = (
    f"{FLAG} mode=opentelemetry needs OpenTelemetry's SDK and its OTLP exporters, which are not installed: "
    "pip install 'ortolan[otel]'"
)


class SpanExport:
    """The way to the receiver. Nothing is sent before the first span."""

    def __init__(self, options: OpenTelemetryOptions) -> None:
        """Raises StartupError where OpenTelemetry is not installed, or does not take its environment variables."""
        self.losses = SpanLosses(options.shown_endpoint)
        self._queue_size = options.queue_size
        reasons = _heard_of_sdk()
        try:
            self._sdk = _Sdk(options)
            self._exporter = _exporter(options)
        except ImportError:
            raise StartupError(_NOT_INSTALLED) from None
        # A file of certificates that is not there. Headers are never in these.
        except (OSError, ValueError) as error:
            raise StartupError(f"{FLAG} mode=opentelemetry: {error}") from None
        self._processor = _processor(options, _counted(self._exporter, self.losses, reasons))

    def put(self, spans: Sequence[Span]) -> None:
        """Have them sent soon; they are dropped, all of a request together, where too many wait."""
        if self.losses.waiting + len(spans) > self._queue_size:
            self.losses.dropped(len(spans))
            return
        self.losses.put(len(spans))
        for span in spans:
            self._processor.on_end(self._sdk.readable(span))

    def close(self) -> None:
        """Return when everything has been sent, or when the receiver takes too long."""
        # The SDK would wait for half a minute, and for an attempt that is under way even longer.
        ending = threading.Thread(target=self._processor.shutdown, name="spans end", daemon=True)
        ending.start()
        ending.join(_LONGEST_CLOSING_S)
        if ending.is_alive():
            threading.Thread(target=self._exporter.shutdown, name="spans stop", daemon=True).start()
        self.losses.end()


class _Sdk:
    """Spans of ours as the SDK's."""

    def __init__(self, options: OpenTelemetryOptions) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

        self._span, self._event, self._link = ReadableSpan, Event, Link
        self._context, self._flags, self._state = SpanContext, TraceFlags, TraceState
        self._server, self._internal = SpanKind.SERVER, SpanKind.INTERNAL
        self._fine = Status(StatusCode.UNSET)
        self._failed = partial(Status, StatusCode.ERROR)
        # It adds which SDK this is. What it finds in the environment is in the options already, with what beats it.
        self._resource = Resource.create(dict(options.resource))
        self._scope = InstrumentationScope("ortolan", __version__)

    def readable(self, span: Span) -> Any:
        parent = None if span.parent is None else self._context_of(span.parent, span.parent_is_remote)
        return self._span(
            span.name,
            self._context_of(span.context),
            parent,
            self._resource,
            span.attributes,
            [self._event(event.name, event.attributes, event.time_ns) for event in span.events],
            [self._link(self._context_of(context)) for context in span.links],
            self._server if span.is_server else self._internal,
            status=self._fine if span.error is None else self._failed(span.error),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    def _context_of(self, context: TraceContext, is_remote: bool = False) -> Any:
        state = self._state(context.state) if context.state else None
        return self._context(context.trace_id, context.span_id, is_remote, self._flags(context.flags), state)


def _exporter(options: OpenTelemetryOptions) -> Any:
    if options.protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc(endpoint=options.endpoint)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp(endpoint=options.endpoint)


def _processor(options: OpenTelemetryOptions, exporter: Any) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(
        exporter,
        max_queue_size=options.queue_size,
        schedule_delay_millis=options.delay_ms,
        max_export_batch_size=options.batch_size,
    )


def _counted(exporter: Any, losses: SpanLosses, reasons: "_Reasons") -> Any:
    """``exporter``, with what becomes of its spans told to ``losses``. It runs in the SDK's thread."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class CountedExporter(SpanExporter):
        def export(self, spans: Any) -> Any:
            losses.taken(len(spans))
            result = exporter.export(spans)
            if result is SpanExportResult.SUCCESS:
                losses.succeeded(len(spans))
            else:
                losses.failed(len(spans), reasons.last)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return bool(exporter.force_flush(timeout_millis))

    return CountedExporter()


def _heard_of_sdk() -> "_Reasons":
    """Have OpenTelemetry log to nobody but what comes back."""
    reasons = _Reasons()
    for name in _SDK_LOGGERS:
        log = logging.getLogger(name)
        log.propagate = False
        log.handlers[:] = [reasons]
    return reasons


class _Reasons(logging.Handler):
    """Why an attempt failed, out of the SDK's log records: codes and the system's words, never their texts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        told = next((text for argument in arguments if (text := harmless(argument))), "")
        self.last = told or self.last


def harmless(argument: object) -> str:
    """What may be told of an argument of a log record of the SDK's; "" for nothing."""
    if isinstance(argument, BaseException):
        return _system_words(argument) or type(argument).__name__
    if isinstance(argument, int) and 100 <= argument < 600:
        return f"it answered {argument}"
    name = getattr(argument, "name", None)
    return f"it answered {name}" if type(argument).__name__ == "StatusCode" and isinstance(name, str) else ""


def _system_words(error: BaseException | None) -> str:
    """What the operating system said, such as "Connection refused", below what libraries made of it."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror and error.errno:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""
