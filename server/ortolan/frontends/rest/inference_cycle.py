"""An inference on an ``HttpConnection``, from its headers to its answer, with the face of uvicorn's cycles."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from ortolan.frontends.rest.answer import Answer, head_bytes
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.body_limits import BodyLimit, declared_bytes
from ortolan.frontends.rest.http_request import Body, HttpRequest
from ortolan.frontends.rest.incoming_body import IncomingBody
from ortolan.frontends.rest.inference import Target
from ortolan.frontends.rest.noted import gone, noted
from ortolan.frontends.rest.traced import begun_trace, with_trace
from ortolan.frontends.tls.identity import PeerIdentity

# Below, to put an answer together costs less than to write it in pieces.
CHEAP_TO_JOIN_BYTES = 64 << 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNWATCHED = nullcontext()
# Of a request that has its ``whole_body``: nothing comes, and nothing is asked of it.
_WHOLE = IncomingBody(None, BodyLimit(0))


class Connection(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    flow: FlowControl
    server_state: ServerState

    @property
    def peer(self) -> PeerIdentity | None: ...

    def on_response_complete(self) -> None: ...


class InferenceCycle(HttpRequest):
    """One request. Uvicorn calls ``run_asgi`` when its turn has come; its ``message_event`` is nobody's."""

    __slots__ = (
        "_app",
        "_connection",
        "_expects_continue",
        "body",
        "disconnected",
        "is_decided",
        "keep_alive",
        "message_event",
        "path",
        "refusal",
        "response_complete",
        "target",
        "task",
    )

    def __init__(
        self,
        app: RestApp,
        connection: Connection,
        path: str,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        keep_alive: bool,
        expects_continue: bool,
        message_event: asyncio.Event,
        by_name: Mapping[bytes, bytes] | None = None,
        whole_body: Body = b"",
    ) -> None:
        tracing = app.core.tracing
        super().__init__(headers, begun_trace(tracing, path, headers) if tracing.on else None, by_name, whole_body)
        self.body = _WHOLE if whole_body else IncomingBody(declared_bytes(self), app.body_limits.of_inference(self))
        self.keep_alive = keep_alive
        self.message_event = message_event
        self.disconnected = False
        self.response_complete = False
        self._app = app
        self._connection = connection
        self.path = path
        self.target = target
        self._expects_continue = expects_continue
        self.task: asyncio.Task[None] | None = None
        """The one that answers."""
        self.refusal: Answer | None = None
        self.is_decided = False
        """Whether it is known already if the request is refused."""

    @property
    def response_started(self) -> bool:
        """Of what is written at once, nothing is before all of it is."""
        return self.response_complete

    def complete(self) -> None:
        """The whole body is there."""
        if self.trace is not None:
            self.trace.received()
        self.body.complete()

    def leave(self) -> None:
        """The client has gone: what is being done for it is cancelled."""
        self.disconnected = True
        gone(self.note)
        if self.task is not None:
            self.task.cancel()

    async def run_asgi(self, app: object) -> None:  # noqa: ARG002
        """Answer, whatever happens."""
        if self.disconnected:
            return
        if self.task is None:
            self.task = asyncio.current_task()
        try:
            if not self.is_decided:
                self.refusal = self._app.refusal_of_inference(self, self._connection.peer, self.note)
            answer = self.refusal or await self._app.inference.answer(self.path, self.target, self)
            if answer is not None:
                await self._send(answer)
            elif not self.disconnected:
                self._connection.transport.close()
        finally:
            self.task = None
            gone(self.note)
            self.body.drop()
            if self.trace is not None:
                self.trace.sent()

    async def sent_body(self, limit: BodyLimit) -> Body:  # noqa: ARG002 - the body was made with it
        if self._expects_continue:
            self._connection.transport.write(_CONTINUE)
        return await self.body.whole()

    def watched(self) -> AbstractContextManager[None]:
        """The connection tells when its client has gone: nothing is to be done for that."""
        return _UNWATCHED

    async def _send(self, answer: Answer) -> None:
        connection = self._connection
        if connection.flow.write_paused:
            await connection.flow.drain()
        if self.disconnected or connection.transport.is_closing():
            return
        if self._app.core.draining:
            self.keep_alive = False
        if self.trace is not None:
            answer = with_trace(answer, self.trace)
            self.trace.sending(answer.status)
        if self.note is not None:
            self.note.trace = self.trace
            answer = noted(answer, self.note)
        if answer.status >= 400:
            self._app.core.errors.told_status(answer.status)
        head = head_bytes(answer, connection.server_state.default_headers, self.keep_alive)
        if sum(map(len, answer.body)) <= CHEAP_TO_JOIN_BYTES:
            connection.transport.write(b"".join((head, *answer.body)))
        else:
            connection.transport.writelines((head, *answer.body))
        if self.trace is not None:
            self.trace.sent()
        self.response_complete = True
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
