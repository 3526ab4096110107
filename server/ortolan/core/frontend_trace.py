"""One request as its frontend sees it, for its trace: when it came and went, whose trace it belongs to."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ortolan.core.trace import Trace
from ortolan.core.trace_context import RESPONSE, TraceContext

UNTOLD = -1
"""The code of an answer that nobody was told."""

_NAMED = re.compile(r"/(models|versions)/[^/:]+")
_PLACEHOLDERS = {"models": "/models/{model}", "versions": "/versions/{version}"}


@dataclass(frozen=True, slots=True)
class FrontendWords:
    """What a frontend calls receiving and sending, as Triton does, and what its spans say."""

    receiving: str
    sending: str
    attributes: Callable[[str, int], Mapping[str, str | int]]
    """Of a call of what (a path, a method) that was answered with this code; by OpenTelemetry's conventions."""


def _http_attributes(path: str, code: int) -> Mapping[str, str | int]:
    told: dict[str, str | int] = {"ortolan.protocol": "http", "http.request.method": "POST"}
    if path:
        told["http.route"] = _NAMED.sub(lambda found: _PLACEHOLDERS[found[1]], path)
    return told if code == UNTOLD else {**told, "http.response.status_code": code}


def _grpc_attributes(method: str, code: int) -> Mapping[str, str | int]:
    told: dict[str, str | int] = {
        "ortolan.protocol": "grpc",
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": method,
    }
    return told if code == UNTOLD else {**told, "rpc.grpc.status_code": code}


HTTP = FrontendWords("HTTP_RECV", "HTTP_SEND", _http_attributes)
GRPC = FrontendWords("GRPC_WAITREAD", "GRPC_SEND", _grpc_attributes)


class FrontendTrace:
    """When a frontend received a request and sent its answer. Made only while something is traced.

    The core adds the trace, if the request is one of those that are traced.
    """

    __slots__ = (
        "_receive_end_ns",
        "_receive_start_ns",
        "_send_start_ns",
        "_waiting",
        "asked",
        "code",
        "parent",
        "span",
        "words",
    )

    def __init__(self, words: FrontendWords, asked: str = "", parent: TraceContext | None = None) -> None:
        """``words`` are ``HTTP`` or ``GRPC``, ``asked`` is the path or the method; receiving begins now.

        ``parent``: the caller's span, as the request's headers have it.
        """
        self.words = words
        self.asked = asked
        self.parent = parent
        self.span: TraceContext | None = None
        """That of the request, once the core traces it as spans."""
        self.code = UNTOLD
        """The answer's status over HTTP, its code over gRPC."""
        self._receive_start_ns = time.monotonic_ns()
        self._receive_end_ns = 0
        self._send_start_ns = 0
        self._waiting: list[tuple[Trace, Callable[[Trace], None]]] = []

    @property
    def trace_id(self) -> str:
        """The trace that the request belongs to, as 32 hexadecimal digits: its own, or else its caller's; "" for none.

        For whoever writes about the request, such as a log; known from the moment at which the core traces it.
        """
        context = self.span or self.parent
        return context.trace_text if context is not None else ""

    @property
    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """What the answer is to carry, so that its client finds the trace; nothing for one that is not traced."""
        return () if self.span is None else ((RESPONSE, self.span.header),)

    @property
    def attributes(self) -> Mapping[str, str | int]:
        """What a span says of the call."""
        return self.words.attributes(self.asked, self.code)

    def received(self) -> None:
        """The whole request is there."""
        self._receive_end_ns = time.monotonic_ns()

    def begin(self, trace: Trace) -> None:
        """The core traces the request."""
        trace.at(f"{self.words.receiving}_START", self._receive_start_ns)
        trace.at(f"{self.words.receiving}_END", self._receive_end_ns or time.monotonic_ns())

    def end_later(self, trace: Trace, keep: Callable[[Trace], None]) -> None:
        """Have ``keep`` called with ``trace`` once the answer has been sent."""
        self._waiting.append((trace, keep))

    def sending(self, code: int = UNTOLD) -> None:
        """The answer, with this code, begins to be sent."""
        self._send_start_ns = time.monotonic_ns()
        self.code = code

    def sent(self) -> None:
        """The whole answer has been handed to the connection, or will not be."""
        end_ns = time.monotonic_ns()
        waiting, self._waiting = self._waiting, []
        for trace, keep in waiting:
            trace.at(f"{self.words.sending}_START", self._send_start_ns or end_ns)
            trace.at(f"{self.words.sending}_END", end_ns)
            keep(trace)
