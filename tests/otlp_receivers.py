"""Receivers of OpenTelemetry's spans for tests: OTLP over HTTP and over gRPC, as a collector has them."""

import http.server
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Link:
    trace_id: str
    span_id: str


@dataclass(frozen=True)
class Received:
    """One span, as it came; ids are hexadecimal, times are Unix times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, int, Mapping[str, Any]]]
    links: Sequence[Link]
    error: str | None
    state: str
    resource: Mapping[str, Any]
    scope: str

    @property
    def link(self) -> Link:
        """What others link to it with."""
        return Link(self.trace_id, self.span_id)


@dataclass
class Receiver:
    """What has come to one address. ``headers`` are those of the last call, their names in lower case."""

    url: str = ""
    spans: list[Received] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    def take(self, body: bytes, headers: Mapping[str, str]) -> None:
        self.headers = headers
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        # In one step: tests read the list meanwhile.
        self.spans += [
            _received(span, _plain(group.resource.attributes), scoped.scope.name)
            for group in request.resource_spans
            for scoped in group.scope_spans
            for span in scoped.spans
        ]

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def of_trace(self, trace_id: str) -> list[Received]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def below(self, span: Received, name: str) -> list[Received]:
        """Its children of this name, in the order of their beginning."""
        found = [each for each in self.spans if each.parent_id == span.span_id and each.name == name]
        return sorted(found, key=lambda each: each.start_ns)


def _received(span: Any, resource: Mapping[str, Any], scope: str) -> Received:
    return Received(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_plain(span.attributes),
        events=[(event.name, event.time_unix_nano, _plain(event.attributes)) for event in span.events],
        links=[Link(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
        state=span.trace_state,
        resource=resource,
        scope=scope,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def http_receiver(answer: Callable[[], int] = lambda: 200, path: str = "/v1/traces") -> Iterator[Receiver]:
    """One over HTTP on a free port; ``answer`` gives the status of each answer, and may take its time."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = answer() if self.path == path else 404
            if status == 200:
                receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests have nothing to tell."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    """One over gRPC on a free port."""
    receiver = Receiver()

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - OTLP's name
            receiver.take(request.SerializeToString(), dict(context.invocation_metadata()))
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
