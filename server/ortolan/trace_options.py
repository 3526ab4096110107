"""What is traced and where it goes, as the settings and OpenTelemetry's variables have it."""

from collections.abc import Mapping
from uuid import uuid4

from ortolan import __version__
from ortolan.core.opentelemetry_config import INSTANCE_ID, is_disabled, opentelemetry_options
from ortolan.core.trace_config import TraceConfig, parse_trace_config
from ortolan.core.trace_settings import OPENTELEMETRY
from ortolan.core.trace_sink import TraceSink
from ortolan.core.tracing import Tracing
from ortolan.settings import Settings
from ortolan.settings.opentelemetry import opentelemetry_environment

_DISABLED = "OTEL_SDK_DISABLED switches OpenTelemetry off; start the server without it"


def tracing_of(settings: Settings, replica: int = 0) -> Tracing:
    """The tracing of a process: number ``replica`` of several, or 0 for one that is alone.

    Raises StartupError for a wrong ``--trace-config``, or a wrong variable of OpenTelemetry's.
    """
    config = parse_trace_config(settings.trace_config)
    if config.settings.mode == OPENTELEMETRY:
        environment = opentelemetry_environment()
        if is_disabled(environment):
            return Tracing(config.settings, refusal=_DISABLED)
        return Tracing(config.settings, sink=_spans(config, environment, replica))
    return Tracing(config.settings, f".replica{replica}" if replica else "")


def _spans(config: TraceConfig, environment: Mapping[str, str], replica: int) -> TraceSink:
    # Half a second of imports that no other mode needs.
    from ortolan.core.span_export import SpanExport
    from ortolan.core.span_traces import SpanTraces

    own = {"service.name": "ortolan", "service.version": __version__, INSTANCE_ID: str(uuid4())}
    return SpanTraces(SpanExport(opentelemetry_options(config.opentelemetry, environment, own, replica)))
