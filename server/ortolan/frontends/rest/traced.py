"""When a request came and when its answer went, for its trace."""

from starlette.types import Message, Receive, Scope, Send

from ortolan.core.tracing import HTTP, FrontendTrace

_KEY = "ortolan.trace"


def traced(scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """``receive`` and ``send``, noting when the whole body was there and when the answer was handed over."""
    trace = scope[_KEY] = FrontendTrace(HTTP)

    async def noting_receive() -> Message:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            trace.received()
        return message

    async def noting_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            trace.sending()
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
