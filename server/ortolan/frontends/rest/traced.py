"""What a request over HTTP has to do with traces: whose it belongs to, when it came and went, what its answer says."""

from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send

from ortolan.core.trace_context import PARENT, RESPONSE, STATE, TraceContext, read_context
from ortolan.core.tracing import HTTP, FrontendTrace, Tracing
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.known_heads import KnownHead

_KEY = "ortolan.trace"
_PARENT, _STATE, _RESPONSE = PARENT.encode(), STATE.encode(), RESPONSE.encode()


def begun_trace(tracing: Tracing, path: str, headers: Iterable[tuple[bytes, bytes]]) -> FrontendTrace:
    """That of a request to ``path``, which begins to come; header names are in lower case."""
    return FrontendTrace(HTTP, path, _caller(headers) if tracing.follows_callers else None)


def may_be_traced(tracing: Tracing, head: KnownHead) -> bool:
    """Whether a request with this head, which is to infer, is traced, or may be."""
    # Where callers are followed, no head is known that names one.
    return tracing.chooses_next(head.target[0])


def with_trace(answer: Answer, trace: FrontendTrace) -> Answer:
    """``answer``, saying in which trace its request is, if it is in one."""
    added = [(name.encode(), value.encode()) for name, value in trace.response_headers]
    return answer._replace(headers=[*answer.headers, *added]) if added else answer


def traced(tracing: Tracing, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """``receive`` and ``send``, noting when the whole body was there and when the answer was handed over."""
    trace = scope[_KEY] = begun_trace(tracing, scope["path"], scope["headers"])

    async def noting_receive() -> Message:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            trace.received()
        return message

    async def noting_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            trace.sending(message["status"])
            if trace.span is not None:
                message["headers"] = [*message.get("headers", ()), (_RESPONSE, trace.span.header.encode())]
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            trace.sent()

    return noting_receive, noting_send


def trace_of(scope: Scope) -> FrontendTrace | None:
    """What the core is to be told of the request; None while nothing is traced."""
    return scope.get(_KEY)


def end_trace(scope: Scope) -> None:
    """No more of the answer will be sent: its client may have gone in the middle of it."""
    trace = trace_of(scope)
    if trace is not None:
        trace.sent()


def _caller(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The span that the request was sent in, as its headers say."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == _PARENT:
            parents.append(str(value, "latin-1"))
        elif name == _STATE:
            states.append(str(value, "latin-1"))
    return read_context(parents, states) if parents else None
