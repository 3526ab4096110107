"""An inference on an ``HttpConnection`` whose form is known: asked and answered by calls, with no coroutine.

It does what an ``InferenceCycle`` does, has the face of uvicorn's cycles as well, and its answers are the same but for
where their time went.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Protocol, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from ortolan.core.inference_core import InferenceCore
from ortolan.core.request_note import RequestNote
from ortolan.errors import OrtolanError
from ortolan.execution.answer import Answer as Found
from ortolan.execution.direct_request import DirectRequest
from ortolan.frontends.rest.answer import OK_LINE, Answer, bug_answer, error_answer, head_bytes
from ortolan.frontends.rest.compression import pays, preferred_encoding
from ortolan.frontends.rest.http_request import HttpRequest
from ortolan.frontends.rest.inference import STOPPED, InferenceEndpoint
from ortolan.frontends.rest.inference_cycle import CHEAP_TO_JOIN_BYTES
from ortolan.frontends.rest.known_heads import KnownHead
from ortolan.frontends.rest.known_requests import KnownRequest, described
from ortolan.frontends.rest.noted import gone, noted
from ortolan.frontends.server_timing import timing_text
from ortolan.inference.datatypes import Array
from ortolan.protocol.json_codec import EncodedResponse

_KEPT, _CLOSED = b"\r\n", b"connection: close\r\n\r\n"


class Connection(Protocol):
    """What it needs of its connection."""

    core: InferenceCore
    inference: InferenceEndpoint
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    server_state: ServerState
    tasks: set[asyncio.Task[None]]

    @property
    def default_lines(self) -> bytes:
        """The headers of every answer, as they are sent."""

    def on_response_complete(self) -> None: ...


class DirectCycle:
    """One request. Lives on the event loop, and among the server's tasks until it is answered."""

    __slots__ = (
        "_connection",
        "_head",
        "_known",
        "_note",
        "_request",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
    )

    def __init__(
        self,
        connection: Connection,
        head: KnownHead,
        known: KnownRequest,
        message_event: asyncio.Event,
        note: RequestNote | None = None,
    ) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = message_event
        self.response_complete = False
        self._connection = connection
        self._head = head
        self._known = known
        self._note = note
        self._request: DirectRequest | None = None

    @property
    def response_started(self) -> bool:
        """Of what is written at once, nothing is before all of it is."""
        return self.response_complete

    def begin(self, inputs: Mapping[str, Array]) -> bool:
        """Ask. False where it has to be asked as others are."""
        self._request = self._connection.core.direct.begin(self._known.form, inputs, self)
        if self._request is None:
            return False
        self._connection.tasks.add(cast("asyncio.Task[None]", self))
        return True

    def leave(self) -> None:
        """The client has gone: what is being done for it is cancelled."""
        self.disconnected = True
        gone(self._note)
        self._drop()

    def cancel(self, msg: object = None) -> None:  # noqa: ARG002 - as tasks are cancelled
        """The server ends. It goes through its tasks, whose set is not to change meanwhile."""
        self._connection.loop.call_soon(self._stop)

    # What the scheduler tells

    def answered(self, answer: Found) -> None:
        self._request = None
        start_ns = time.monotonic_ns()
        try:
            encoded = self._known.encoded(answer)
        except Exception as error:
            self._send(bug_answer(self._head.path, error, self._note))
        else:
            self._send_inferred(encoded, answer, start_ns)

    def refused(self, error: OrtolanError) -> None:
        self._request = None
        self._send(error_answer(error))

    # Inside

    def _stop(self) -> None:
        if self._request is not None:
            self._drop()
            self._send_or_close(STOPPED)

    def _send_or_close(self, error: OrtolanError) -> None:
        """As ``InferenceEndpoint.answer``: who is cancelled, and not by a server that stops, has gone."""
        if self._connection.core.draining:
            self._send(error_answer(error))
        else:
            self._connection.transport.close()

    def _drop(self) -> None:
        self._connection.tasks.discard(cast("asyncio.Task[None]", self))
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def _send_inferred(self, encoded: EncodedResponse, answer: Found, start_ns: int) -> None:
        connection = self._connection
        size = sum(map(len, encoded.pieces))
        if connection.flow.write_paused or (pays(size) and self._wants_encoding()):
            self._send_soon(self._as_usual(encoded, answer, start_ns))
            return
        if not self._may_send():
            return
        times = answer.times
        compute_ns = times.end_ns - times.start_ns
        timing = timing_text(answer.queue_ns, answer.batch_rows, compute_ns, time.monotonic_ns() - start_ns)
        lines = b"%bserver-timing: %b\r\n" % (described(encoded.header_length, size), timing.encode())
        if self._note is not None:
            lines += self._noted_line(self._note, size)
        head = (OK_LINE, connection.default_lines, lines, _KEPT if self.keep_alive else _CLOSED)
        if size <= CHEAP_TO_JOIN_BYTES:
            connection.transport.write(b"".join((*head, *encoded.pieces)))
        else:
            connection.transport.writelines((b"".join(head), *encoded.pieces))
        self._sent()

    def _noted_line(self, note: RequestNote, size: int) -> bytes:
        """The header that names the request, which is answered now."""
        self._known.form.tell(note)
        note.answered(200, size)
        return b"x-request-id: %b\r\n" % note.request_id.encode()

    def _wants_encoding(self) -> bool:
        accepted = self._head.header(b"accept-encoding")
        return bool(accepted and preferred_encoding(accepted))

    async def _as_usual(self, encoded: EncodedResponse, answer: Found, start_ns: int) -> Answer:
        asked = HttpRequest(self._head.headers, None, self._head.by_name)
        response = self._known.form.response(answer)
        return await self._connection.inference.encoded_answer(encoded, asked, response, start_ns)

    def _send(self, answer: Answer) -> None:
        connection = self._connection
        if connection.flow.write_paused:
            self._send_soon(_made(answer))
        elif self._may_send():
            connection.core.errors.told_status(answer.status)
            if self._note is not None:
                self._known.form.tell(self._note)
                answer = noted(answer, self._note)
            head = head_bytes(answer, connection.server_state.default_headers, self.keep_alive)
            connection.transport.writelines((head, *answer.body))
            self._sent()

    def _send_soon(self, making: Coroutine[None, None, Answer]) -> None:
        """Send what is still to be made, or has to wait until the client takes what was sent before."""
        tasks = self._connection.tasks
        tasks.discard(cast("asyncio.Task[None]", self))
        task = self._connection.loop.create_task(self._send_made(making))
        task.add_done_callback(tasks.discard)
        tasks.add(task)

    async def _send_made(self, making: Coroutine[None, None, Answer]) -> None:
        try:
            answer = await making
        except asyncio.CancelledError:
            self._send_or_close(STOPPED)
            return
        except Exception as error:
            answer = bug_answer(self._head.path, error, self._note)
        if self._connection.flow.write_paused:
            await self._connection.flow.drain()
        if not self.response_complete:
            self._send(answer)

    def _may_send(self) -> bool:
        connection = self._connection
        if self.disconnected or connection.transport.is_closing():
            connection.tasks.discard(cast("asyncio.Task[None]", self))
            return False
        if connection.core.draining:
            self.keep_alive = False
        return True

    def _sent(self) -> None:
        connection = self._connection
        connection.tasks.discard(cast("asyncio.Task[None]", self))
        self.response_complete = True
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


async def _made(answer: Answer) -> Answer:
    return answer
