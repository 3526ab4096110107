"""Where spans go and how: Triton's settings of its mode ``opentelemetry``, over OpenTelemetry's own variables. Pure.

What is not here, such as headers, certificates, compression and timeouts, the exporters read from the environment
themselves. The values of headers are never looked at, so that none can come into a message.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ortolan.core.trace_config import BATCH_SIZE, DELAY, FLAG, QUEUE_SIZE, RESOURCE, URL
from ortolan.errors import StartupError

HTTP_PROTOBUF = "http/protobuf"
GRPC = "grpc"
_PROTOCOLS = (HTTP_PROTOBUF, GRPC)
_DEFAULT_BASE = {HTTP_PROTOBUF: "http://localhost:4318", GRPC: "http://localhost:4317"}
_TRACES_PATH = "/v1/traces"

_OF_EXPORTERS = ("OTEL_EXPORTER_OTLP_TRACES", "OTEL_EXPORTER_OTLP")
_COMPRESSIONS = ("", "none", "gzip", "deflate")
_SECONDS = re.compile(r"([0-9]{1,6}(\.[0-9]{1,9})?)?")

INSTANCE_ID = "service.instance.id"
_SERVICE_NAME = "service.name"
# Each setting of the batch span processor: its variable, its default, which is OpenTelemetry's and Triton's, its most.
_BATCHING = {
    QUEUE_SIZE: ("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1_000_000),
    DELAY: ("OTEL_BSP_SCHEDULE_DELAY", 5000, 3_600_000),
    BATCH_SIZE: ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class OpenTelemetryOptions:
    """What the exporter is made of."""

    protocol: str
    """``HTTP_PROTOBUF`` or ``GRPC``."""
    endpoint: str
    """The URL of the receiver; over HTTP with the path of traces."""
    resource: Mapping[str, str]
    """Who sends: attributes of every span."""
    queue_size: int
    """So many spans may wait to be sent; what comes on top is lost."""
    delay_ms: int
    """How long spans wait for others, to be sent together."""
    batch_size: int
    """As many are sent at a time."""

    @property
    def shown_endpoint(self) -> str:
        """The endpoint as it may stand in a log: without a user's name, password or query."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_disabled(environment: Mapping[str, str]) -> bool:
    """Whether OTEL_SDK_DISABLED switches OpenTelemetry off."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def opentelemetry_options(
    given: Mapping[str, Sequence[str]], environment: Mapping[str, str], own: Mapping[str, str], replica: int = 0
) -> OpenTelemetryOptions:
    """The options that the flag's settings ``given`` make of the ``environment``: flags beat variables.

    ``own`` are the resource's attributes where nobody says otherwise. A ``replica`` (0: the process is alone) gets an
    instance of its own in any case. Raises StartupError naming what cannot be followed.
    """
    protocol = _first(environment, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or HTTP_PROTOBUF
    if protocol not in _PROTOCOLS:
        raise StartupError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: there are {' and '.join(_PROTOCOLS)} for spans, got '{protocol[:64]}'"
        )
    _check_exporters_own(environment)
    queue_size = _number(QUEUE_SIZE, given, environment)
    batch_size = min(_number(BATCH_SIZE, given, environment), queue_size)
    return OpenTelemetryOptions(
        protocol,
        _endpoint(given, environment, protocol),
        _resource(given, environment, own, replica),
        queue_size,
        _number(DELAY, given, environment),
        batch_size,
    )


def _first(environment: Mapping[str, str], *names: str) -> str:
    """The first of these variables that has a value; an empty one is none, as OpenTelemetry has it."""
    return next((value for name in names if (value := environment.get(name, "").strip())), "")


def _check_exporters_own(environment: Mapping[str, str]) -> None:
    """What the exporters would end the process for, said as everything else is."""
    for start in _OF_EXPORTERS:
        compression, timeout = f"{start}_COMPRESSION", f"{start}_TIMEOUT"
        if (text := _first(environment, compression).lower()) not in _COMPRESSIONS:
            raise StartupError(f"{compression}: expected gzip, deflate or none, got '{text[:64]}'")
        if not _SECONDS.fullmatch(text := _first(environment, timeout)):
            raise StartupError(f"{timeout}: expected seconds, such as 10, got '{text[:64]}'")


def _endpoint(given: Mapping[str, Sequence[str]], environment: Mapping[str, str], protocol: str) -> str:
    url = given.get(URL, [""])[-1]
    if url:
        where = f"{FLAG} opentelemetry,{URL}"
    elif url := _first(environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        where = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    else:
        where = "OTEL_EXPORTER_OTLP_ENDPOINT"
        url = _first(environment, where) or _DEFAULT_BASE[protocol]
        if protocol == HTTP_PROTOBUF:
            url = url.rstrip("/") + _TRACES_PATH
    # Triton's own documentation has it without.
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        # Not shown: it may hold a password.
        raise StartupError(f"{where}: expected a URL such as {_DEFAULT_BASE[HTTP_PROTOBUF]}{_TRACES_PATH}")
    return url


def _resource(
    given: Mapping[str, Sequence[str]], environment: Mapping[str, str], own: Mapping[str, str], replica: int
) -> Mapping[str, str]:
    resource = dict(own)
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            resource[key.strip()] = unquote(value.strip())
    if name := _first(environment, "OTEL_SERVICE_NAME"):
        resource[_SERVICE_NAME] = name
    for text in given.get(RESOURCE, ()):
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals):
            raise StartupError(f"{FLAG} opentelemetry,{RESOURCE}: expected KEY=VALUE, got '{text[:64]}'")
        resource[key] = value
    if replica and resource.get(INSTANCE_ID) != own.get(INSTANCE_ID):
        # The operator has named the server, and there are several of it.
        resource[INSTANCE_ID] = f"{resource[INSTANCE_ID]}.{replica}"
    return resource


def _number(setting: str, given: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> int:
    variable, default, most = _BATCHING[setting]
    where = f"{FLAG} opentelemetry,{setting}" if setting in given else variable
    text = given[setting][-1] if setting in given else _first(environment, variable)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise StartupError(f"{where}: expected a whole number from 1 to {most}, got '{text[:64]}'")
    return int(text)
