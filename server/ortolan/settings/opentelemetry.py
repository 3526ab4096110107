"""OpenTelemetry's standard environment variables, which are no settings of ours."""

import os
from collections.abc import Mapping


def opentelemetry_environment() -> Mapping[str, str]:
    """Those that are set."""
    return {name: text for name, text in os.environ.items() if name.startswith("OTEL_")}
