"""Requests and answers as ASGI carries them."""

from contextlib import AbstractContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ortolan.errors import Cancelled
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.body_limits import BodyLimit, declared_bytes
from ortolan.frontends.rest.disconnect import cancelled_on_disconnect
from ortolan.frontends.rest.http_request import Body, HttpRequest
from ortolan.frontends.rest.incoming_body import IncomingBody
from ortolan.frontends.rest.noted import note_in
from ortolan.frontends.rest.traced import trace_of

# Below, to put an answer together costs less than to send it in pieces.
_CHEAP_TO_JOIN_BYTES = 64 << 10


class AsgiRequest(HttpRequest):
    """A request that is read message by message."""

    __slots__ = ("_receive",)

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope["headers"], trace_of(scope))
        self.note = note_in(scope)
        self._receive = receive

    async def sent_body(self, limit: BodyLimit) -> Body:
        body = IncomingBody(declared_bytes(self), limit)
        more = True
        while more and body.is_wanted:
            chunk, more = await self._next_chunk()
            body.feed(chunk)
        body.complete()
        return await body.whole()

    def watched(self) -> AbstractContextManager[None]:
        return cancelled_on_disconnect(self._receive)

    async def _next_chunk(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client went away before its request was complete")
        return message.get("body", b""), message.get("more_body", False)


async def send_answer(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    if sum(map(len, answer.body)) <= _CHEAP_TO_JOIN_BYTES:
        await send({"type": "http.response.body", "body": b"".join(answer.body)})
        return
    for piece in answer.body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def response_of(answer: Answer) -> Response:
    """The answer for routes and error handlers inside FastAPI."""
    response = Response(b"".join(answer.body), answer.status)
    response.raw_headers = answer.headers
    return response
