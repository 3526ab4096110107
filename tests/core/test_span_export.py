import logging
import threading
import time

import grpc
import pytest
from otlp_receivers import Link, grpc_receiver, http_receiver
from server_process import eventually

from ortolan.core.opentelemetry_config import OpenTelemetryOptions, opentelemetry_options
from ortolan.core.span import Span, SpanEvent
from ortolan.core.span_export import SpanExport, harmless
from ortolan.core.trace_context import TraceContext

CALLER = TraceContext(0xABC, 0x1, 1, (("them", "1"),))
OTHER = TraceContext(0xDEF, 0x2)
SPAN = Span(
    "InferRequest",
    CALLER.child(0x3),
    CALLER,
    100,
    200,
    {"text": "a", "number": 7, "switch": True},
    [SpanEvent("HTTP_RECV_START", 100), SpanEvent("TENSOR_QUEUE_INPUT", 120, {"tensor.name": "x"})],
    [OTHER],
    is_server=True,
    error="QueueFull: full",
    parent_is_remote=True,
)


def options(url: str, protocol: str = "http/protobuf", **numbers: str) -> OpenTelemetryOptions:
    given = {"url": [url], **{name: [number] for name, number in numbers.items()}}
    return opentelemetry_options(given, {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}, {"service.name": "o"})


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_span_arrives_as_it_was_with_all_that_waits_at_the_end(protocol: str) -> None:
    with (http_receiver if protocol == "http/protobuf" else grpc_receiver)() as receiver:
        export = SpanExport(options(receiver.url, protocol, bsp_schedule_delay="3600000"))
        export.put([SPAN])
        export.put([Span("m", OTHER, None, 110, 190, {})])
        export.close()
        first, second = sorted(receiver.spans, key=lambda span: span.start_ns)
    assert (first.name, first.trace_id, first.span_id) == ("InferRequest", f"{0xABC:032x}", f"{3:016x}")
    assert (first.parent_id, first.state, first.kind) == (f"{1:016x}", "them=1", 2)
    assert (first.start_ns, first.end_ns, first.error) == (100, 200, "QueueFull: full")
    assert first.attributes == {"text": "a", "number": 7, "switch": True}
    assert first.events == [("HTTP_RECV_START", 100, {}), ("TENSOR_QUEUE_INPUT", 120, {"tensor.name": "x"})]
    assert first.links == [Link(f"{0xDEF:032x}", f"{2:016x}")]
    assert (first.resource["service.name"], first.resource["telemetry.sdk.language"]) == ("o", "python")
    assert (second.parent_id, second.kind, second.error, second.events) == ("", 1, None, [])
    assert (export.losses.sent, export.losses.lost, export.losses.waiting) == (2, 0, 0)


def test_a_receiver_that_hangs_costs_spans_and_neither_a_request_nor_the_end_its_time() -> None:
    goes_on = threading.Event()

    def hang() -> int:
        goes_on.wait(30)
        return 200

    with http_receiver(hang) as receiver:
        export = SpanExport(options(receiver.url, bsp_schedule_delay="1", bsp_max_queue_size="10"))
        try:
            export.put([SPAN])
            # It is under way, and will be for long.
            eventually(lambda: not export.losses.waiting)
            begin_s = time.monotonic()
            for _ in range(1000):
                export.put([SPAN, SPAN, SPAN])
            assert (export.losses.waiting, export.losses.lost) == (9, 2991)
            export.close()
            assert time.monotonic() - begin_s < 10
            assert export.losses.lost == 3000
        finally:
            goes_on.set()


def test_why_a_receiver_takes_nothing_is_told_without_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver(lambda: 401, path="/v1/traces?key=secret") as receiver, caplog.at_level(logging.DEBUG):
        url = receiver.url.replace("://", "://me:secret@")
        export = SpanExport(options(f"{url}?key=secret", bsp_schedule_delay="1"))
        export.put([SPAN])
        eventually(lambda: export.losses.lost)
        export.close()
    (line,) = caplog.messages
    assert line.startswith(
        f"1 spans did not reach {receiver.url} (it answered 401); requests are answered all the same"
    )


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (401, "it answered 401"),
        (grpc.StatusCode.UNAVAILABLE, "it answered UNAVAILABLE"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("secret"), "TimeoutError"),
        ("secret", ""),
        (12.5, ""),
        (None, ""),
    ],
)
def test_of_an_attempt_only_codes_and_the_systems_words_are_told(argument: object, told: str) -> None:
    assert harmless(argument) == told


def test_the_systems_words_are_found_below_what_libraries_make_of_them() -> None:
    error = RuntimeError("http://secret")
    error.__context__ = ValueError("secret")
    error.__context__.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert harmless(error) == "Connection refused"
