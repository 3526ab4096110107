"""One request to the REST application over HTTP/2: an ASGI application's ``receive`` and ``send`` on a stream.

As uvicorn has it over HTTP/1: a client that goes is a message, and what is sent to it then is dropped.
"""

import asyncio
import logging
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ortolan.core.access_log import AccessLog
from ortolan.core.error_responses import ErrorResponses
from ortolan.core.request_note import RequestNote
from ortolan.errors import DeadlineExceeded, InvalidArgument, OrtolanError
from ortolan.frontends.grpc.connection_life import Pace
from ortolan.frontends.grpc.http2_exchange import TOO_SLOW, Carrier, Exchange
from ortolan.frontends.one_port.rest_head import RestHead, read_head
from ortolan.frontends.rest.answer import Answer, bug_answer, error_answer, message_answer
from ortolan.frontends.rest.app import PEER
from ortolan.frontends.rest.asgi_request import send_answer
from ortolan.frontends.rest.hosts import ANY_HOST, MISDIRECTED, AllowedHosts
from ortolan.frontends.rest.http_limits import head_fault
from ortolan.frontends.rest.noted import NOTE, REQUEST_ID_HEADER, USER_AGENT, gone, note_in, note_of, noted, noting
from ortolan.http2.faults import ErrorCode
from ortolan.http2.header_blocks import HeaderList, encode
from ortolan.http2.stream import Stream

_log = logging.getLogger(__name__)

_CONTINUE = encode([(b":status", b"100")])
# What HTTP/1 says of its connection; HTTP/2 has other means (RFC 9113, section 8.2.2).
_OF_HTTP1 = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
# What is still on its way when the answer is there is thrown away, up to here, and while it comes.
_MOST_UNWANTED_BYTES = 64 << 20
_LINGER_S = 1.0
_UNREADABLE = RestHead({"type": "http", "method": "GET", "path": "/"}, (), expects_continue=False)


class RestRequests:
    """How requests to an application begin."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: AllowedHosts = ANY_HOST,
        errors: ErrorResponses | None = None,
        log: AccessLog | None = None,
    ) -> None:
        """``errors``: where refusals are counted that do not come from ``app``; ``log``: who keeps notes of all."""
        self._log = log
        self._app = app
        self._hosts = hosts
        self._errors = errors or ErrorResponses()

    def head(self, fields: HeaderList) -> "RestRequest":
        """What ``fields`` ask for; where they are wrong, a request whose answer says so."""
        try:
            head = read_head(fields)
        except InvalidArgument as error:
            return RestRequest(_telling(error_answer(error), self._errors), _UNREADABLE, self._errors, self._log)
        refusal = self._refusal(head)
        app = self._app if refusal is None else _telling(refusal, self._errors)
        return RestRequest(app, head, self._errors, self._log)

    def _refusal(self, head: RestHead) -> Answer | None:
        """As over HTTP/1, but that the connection goes on."""
        if (fault := head_fault(head.headers, "2")) is not None:
            return message_answer(*fault)
        if not self._hosts.allows(head.scope["raw_path"], head.headers):
            return message_answer(MISDIRECTED, self._hosts.refusal(head.headers))
        return None


class RestRequest:
    """What requests with the same fields have in common."""

    def __init__(self, app: ASGIApp, head: RestHead, errors: ErrorResponses, log: AccessLog | None) -> None:
        self._app = app
        self._head = head
        self._errors = errors
        self._log = log
        by_name = dict(reversed(head.headers))
        self._sent_id = by_name.get(REQUEST_ID_HEADER)
        self._user_agent = by_name.get(USER_AGENT, b"")

    def begin(self, stream: Stream, carrier: Carrier) -> "RestExchange":
        scope = self._head.scope
        target = scope.get("raw_path", b"")
        method = scope["method"] if target else ""
        note = note_of(self._log, self._sent_id, "HTTP/2", carrier.peer.address, method, target)
        if note is not None:
            note.user_agent = self._user_agent
        return RestExchange(self._app, self._head, stream, carrier, self._errors, note)


class RestExchange(Exchange):
    """Begins at once; its body comes with ``feed``."""

    # Python's h2, and httpx with it, fails everything that is under way when any GOAWAY comes.
    outlives_goaway = False

    def __init__(
        self,
        app: ASGIApp,
        head: RestHead,
        stream: Stream,
        carrier: Carrier,
        errors: ErrorResponses,
        note: RequestNote | None = None,
    ) -> None:
        self._errors = errors
        self._note = note
        self._app = app
        self._head = head
        self._stream = stream
        self._carrier = carrier
        self._body = bytearray()
        self._ended = False
        self._unfinished_bytes = 0
        self._end_told = False
        self._start: bytes | None = None
        self._is_last = False
        self._begun = False
        self._over = False
        self._came = asyncio.Event()
        self._left = asyncio.Event()
        self._pace = Pace(asyncio.get_running_loop().time())
        self._unwanted: asyncio.TimerHandle | None = None
        self._unwanted_bytes = 0
        self._asks_for_body = head.expects_continue
        self._task = asyncio.get_running_loop().create_task(self._run())

    # What the connection tells

    def feed(self, data: bytes | memoryview, ended: bool) -> None:
        if self._unwanted is not None:
            self._discard(len(data), ended)
        if self._over:
            return
        if self._note is not None:
            self._note.bytes_in = self._stream.taken
        self._body += data
        self._ended = ended
        # What is whole is the application's, which bounds it itself.
        self._hold(0 if ended else self._unfinished_bytes + len(data))
        self._came.set()

    def sent(self) -> None:
        self._left.set()

    @property
    def held_bytes(self) -> int:
        return self._unfinished_bytes

    @property
    def is_within(self) -> bool:
        return not self._ended

    def cancel(self) -> None:
        if self._unwanted is not None:
            self._unwanted.cancel()
        self._finish()

    def fail(self, error: OrtolanError) -> None:
        if not self._over:
            if self._begun:
                self._carrier.http2.reset(self._stream, ErrorCode.INTERNAL_ERROR)
            else:
                self._answer(error_answer(error))
        if self._unwanted is not None:
            self._end()
        self._finish()
        self._task.cancel()

    def look_at_the_clock(self, now_s: float) -> float:
        owed = not self._ended and self._stream.receiving and self._stream.receive_window > 0
        if self._pace.too_slow(now_s, owed, self._stream.taken):
            self.fail(DeadlineExceeded(TOO_SLOW))
        return self._pace.ends_s

    # The application

    async def _run(self) -> None:
        """Answer, whatever comes of it."""
        try:
            if not self._over:
                await self._app(self._scope(), self._receive, self._send)
        except Exception as error:
            if self._begun:
                _log.exception("a request over HTTP/2 failed in an unforeseen way")
            elif not self._over:
                self._answer(bug_answer(self._head.scope["path"], error, self._note))
        finally:
            if not self._over:
                # Part of an answer, or none: nobody is to take it for a whole one.
                self._carrier.http2.reset(self._stream, ErrorCode.INTERNAL_ERROR)
            self._finish()
            self._carrier.flush()

    def _scope(self) -> Scope:
        transport = self._carrier.transport
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        return {
            **self._head.scope,
            "headers": [*self._head.headers],
            "client": client[:2] if isinstance(client, tuple) else None,
            "server": server[:2] if isinstance(server, tuple) else None,
            "state": {},
            PEER: self._carrier.peer(),
            NOTE: self._note,
        }

    async def _receive(self) -> Message:
        if self._asks_for_body and not (self._begun or self._over):
            self._carrier.http2.send_headers(self._stream, _CONTINUE)
            self._carrier.flush()
        self._asks_for_body = False
        while not (self._over or self._body or (self._ended and not self._end_told)):
            self._came.clear()
            await self._came.wait()
        if self._over:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        self._end_told = self._ended
        self._carrier.http2.consumed(self._stream, len(body))
        self._carrier.flush()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def _send(self, message: Message) -> None:
        """Raises RuntimeError for what is no message of an answer, or not its turn."""
        if self._over:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = self._fields(message)
        elif kind == "http.response.body" and self._start is not None:
            more = message.get("more_body", False)
            self._send_data(self._start, b"" if self._is_head else message.get("body", b""), more)
            self._carrier.flush()
            while more and self._stream.unsent_bytes and not self._over:
                self._left.clear()
                await self._left.wait()
        else:
            raise RuntimeError(f"the application sent {kind!r} out of turn")

    # The answer

    @property
    def _is_head(self) -> bool:
        return bool(self._head.scope["method"] == "HEAD")

    def _answer(self, answer: Answer) -> None:
        """The whole answer, where the application has sent nothing that left."""
        self._errors.told_status(answer.status)
        if self._note is not None:
            self._note.bytes_in = self._stream.taken
            answer = noted(answer, self._note)
        start = self._fields({"status": answer.status, "headers": answer.headers})
        self._send_data(start, b"" if self._is_head else b"".join(answer.body), more=False)

    def _fields(self, start: Mapping[str, Any]) -> bytes:
        headers = [(name.lower(), value) for name, value in start.get("headers", ())]
        self._is_last = (b"connection", b"close") in headers
        fields = [(b":status", b"%d" % start["status"]), (b"date", formatdate(usegmt=True).encode())]
        return encode(fields + [field for field in headers if field[0] not in _OF_HTTP1])

    def _send_data(self, start: bytes, data: bytes, more: bool) -> None:
        http2, stream = self._carrier.http2, self._stream
        # Many clients that are still sending take the end of the answer for a failure, and tell nobody what it says.
        waits = not (more or self._ended or self._asks_for_body)
        ends_with_start = not (self._begun or data or more or waits)
        if not self._begun and not ends_with_start:
            http2.send_headers(stream, start)
        self._begun = True
        if data:
            http2.send_data(stream, data)
        if more:
            return
        unread_bytes = len(self._body)
        self._finish()
        if ends_with_start:
            http2.send_end(stream, start)
        elif waits:
            http2.consumed(stream, unread_bytes)
            self._unwanted = asyncio.get_running_loop().call_later(_LINGER_S, self._end_if_silent, stream.taken)
        else:
            http2.send_end(stream, b"")
        if self._is_last:
            self._carrier.leave()

    def _discard(self, size: int, ended: bool) -> None:
        self._carrier.http2.consumed(self._stream, size)
        self._unwanted_bytes += size
        if ended or self._unwanted_bytes > _MOST_UNWANTED_BYTES:
            self._end()

    def _end_if_silent(self, taken_bytes: int) -> None:
        """The client has answer enough to stop sending, and some do without a word."""
        if self._stream.taken == taken_bytes:
            self._end()
        else:
            loop = asyncio.get_running_loop()
            self._unwanted = loop.call_later(_LINGER_S, self._end_if_silent, self._stream.taken)

    def _end(self) -> None:
        """End the answer, of which nothing else is missing."""
        if self._unwanted is not None:
            self._unwanted.cancel()
            self._unwanted = None
        self._carrier.http2.send_end(self._stream, b"")
        self._carrier.flush()

    def _finish(self) -> None:
        """Nothing more is read, and nothing more is sent that is not on its way."""
        self._over = True
        gone(self._note)
        self._body.clear()
        self._hold(0)
        self._came.set()
        self._left.set()

    def _hold(self, size: int) -> None:
        self._carrier.unfinished.bytes += size - self._unfinished_bytes
        self._unfinished_bytes = size


def _telling(answer: Answer, errors: ErrorResponses) -> ASGIApp:
    async def tell(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        errors.told_status(answer.status)
        note = note_in(scope)
        await send_answer(answer, send if note is None else noting(send, note))

    return tell
