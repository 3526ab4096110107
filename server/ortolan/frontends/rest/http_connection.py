"""One client's connection to the HTTP port: uvicorn's, which answers inferences itself.

What a request for inference costs on ASGI is mostly ASGI: messages, two writes, an event for each request. Here its
body is collected as it comes, and its answer leaves in one write. All else about HTTP stays uvicorn's: parsing and what
is no HTTP, keeping connections open, requests that are sent ahead, shutting down. So an ``InferenceCycle`` has the face
of uvicorn's own cycles, and every request that is not plainly an inference gets one of those.

This leans on names inside uvicorn; ``tests/frontends/test_uvicorn_contract.py`` says which.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from ortolan.core.request_note import RequestNote
from ortolan.errors import OrtolanError
from ortolan.frontends.access.peer import Peer
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.rest.answer import Answer, header_lines
from ortolan.frontends.rest.app import PEER, RestApp
from ortolan.frontends.rest.body_limits import declared_bytes
from ortolan.frontends.rest.bounded_connection import BoundedConnection
from ortolan.frontends.rest.direct_cycle import DirectCycle
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.inference import Target, inference_target
from ortolan.frontends.rest.inference_cycle import InferenceCycle
from ortolan.frontends.rest.known_heads import KnownHead, KnownHeads
from ortolan.frontends.rest.known_requests import KnownRequest, KnownRequests
from ortolan.frontends.rest.large_body import LARGE_BYTES, LargeBody
from ortolan.frontends.rest.noted import NOTE, REQUEST_ID_HEADER, USER_AGENT, gone, note_in, note_of, noted
from ortolan.frontends.rest.passing_lines import CALLERS_SPAN
from ortolan.frontends.rest.traced import may_be_traced
from ortolan.frontends.rest.turn_taking import BODY, HEAD, NOTHING
from ortolan.frontends.tls.identity import PeerIdentity
from ortolan.inference.datatypes import Array
from ortolan.inference.request import InferenceRequest

_KEPT_URLS = 256
_LONGEST_KEPT_URL_BYTES = 512
# Requests up to here come in one piece, and a copy of their body costs next to nothing.
_LARGEST_WHOLE_BYTES = 32 << 10
_MOST_DIGITS = 4
_MOST_LENGTH_DIGITS = 19
# Of a URL's characters those that stand for themselves, in a path that begins with "/" and has no query.
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"%?#\\")


class HttpService:
    """What all connections of one port share."""

    def __init__(self, app: RestApp, limits: HttpLimits | None = None) -> None:
        self.app = app
        options = app.rest_options
        held = HeldBytes(options.held_bytes)
        self.bounds = HttpBounds(limits or options.limits, held, options.hosts, errors=app.core.errors)
        self.heads = KnownHeads(_passing(app))
        self._defaults: list[tuple[bytes, bytes]] = []
        self._default_lines = b""
        self._plain_target = lru_cache(_KEPT_URLS)(_plain_target)

    def default_lines(self, state: ServerState) -> bytes:
        """The headers of every answer, as they are sent; uvicorn makes new ones each second."""
        if state.default_headers is not self._defaults:
            self._defaults = state.default_headers
            self._default_lines = header_lines(self._defaults)
        return self._default_lines

    def target(self, url: bytes) -> Target | None:
        """Where a request with this URL is to infer; None for any other, and for one that is spelt unusually."""
        return self._plain_target(url) if len(url) <= _LONGEST_KEPT_URL_BYTES else None

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn takes for the class of its connections."""
        return cast("type[asyncio.Protocol]", partial(HttpConnection, self))


class HttpConnection(BoundedConnection):
    """Bytes of a socket ⇄ requests and answers. Lives on the event loop."""

    def __init__(
        self,
        service: HttpService,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(service.bounds, config, server_state, app_state, _loop)
        self._service = service
        self.core = service.app.core
        self.inference = service.app.inference
        self._heads = service.heads
        self._log = self.core.access_log
        self._inference: InferenceCycle | None = None
        self._is_first = True
        self._peer: Peer | None = None
        # Uvicorn sets its cycles' events when the client has gone; ours are told otherwise.
        self._unheard = asyncio.Event()

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        is_first, self._is_first = self._is_first, False
        if len(data) > _LARGEST_WHOLE_BYTES or (self._is_within() and not is_first) or not self._is_idle():
            super().data_received(data)
        elif (found := self._heads.find(data)) is not None:
            # Of a new connection a head was expected, and here is all of a request.
            self._part = NOTHING
            self._begin_known(*found, data)
        else:
            cycle = self.cycle
            super().data_received(data)
            # One that is answered at once left no trace, and one that is not whole has more to come.
            if (asked := self._inference) is not None and self.cycle is not cycle and not self._is_within():
                self._learn(data, asked)

    # What uvicorn's parser tells

    def _begin_request(self, version: str) -> None:
        target = self._service.target(self.url)
        if target is None or not self._plainly_sent():
            self._inference = None
            super()._begin_request(version)
            # It is handed to a task, which has not begun.
            self.scope[PEER] = self.peer  # type: ignore[literal-required]
            if (note := self._new_note()) is not None:
                self.scope[NOTE] = note  # type: ignore[literal-required]
            return
        cycle = InferenceCycle(
            self._service.app,
            self,
            self.url.decode(),
            target,
            self.headers,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
            message_event=self._unheard,
        )
        cycle.note = self._new_note(cycle.by_name)
        is_first = self._is_idle()
        self._inference = cycle
        self.cycle = cast("RequestResponseCycle", cycle)
        if is_first:
            self._begin(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self._inference
        if cycle is None:
            super().on_body(body)
            return
        self._body_came = True
        if cycle.body.feed(body) < LARGE_BYTES or self._unparsed:
            return
        rest = cycle.body.buffer_for_rest()
        if rest is not None:
            self.transport.set_protocol(LargeBody(self, rest))

    def on_message_complete(self) -> None:
        if self._inference is None or self.parser.should_upgrade():
            super().on_message_complete()
        else:
            self._message_came()
            self._inference.complete()

    # What a large body tells

    def large_body_complete(self) -> None:
        """The parser has not seen that body, so that the next request gets a parser of its own."""
        self.transport.set_protocol(self)
        self._new_parser()
        self.on_message_complete()

    @property
    def peer(self) -> PeerIdentity | None:
        """What the client's certificate proves, where it has one."""
        if self._peer is None:
            self._peer = Peer(self.transport)
        return self._peer()

    @property
    def default_lines(self) -> bytes:
        """The headers of every answer, as they are sent."""
        return self._service.default_lines(self.server_state)

    # Inside

    def _begin(self, cycle: InferenceCycle) -> None:
        self._turn = self.cycle
        task = cycle.task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _begin_known(self, head: KnownHead, start: int, sent_id: bytes | None, data: bytes) -> None:
        """A whole request with a head that was parsed before: the parser, which is between two, sees nothing of it."""
        app = self._service.app
        note = None
        if self._log is not None or sent_id:
            note = self._note_of(sent_id, "HTTP/1.1", "POST", head.path.encode(), head.by_name, head.body_bytes)
        refusal = app.refusal_of_inference(head, self.peer, note) if app.guards_inference else None
        # What is traced is followed through all of its steps.
        is_traced = self.core.tracing.on and may_be_traced(self.core.tracing, head)
        requests = None if is_traced or refusal is not None else head.requests
        if requests is not None and (found := requests.find(data, start, head.json_bytes)) is not None:
            if self._begin_direct(head, *found, note):
                requests.lessons.begun()
                return
            requests.lessons.outdated()
        body = data[start:]
        cycle = InferenceCycle(
            self._service.app,
            self,
            head.path,
            head.target,
            head.headers,
            keep_alive=True,
            expects_continue=False,
            message_event=self._unheard,
            by_name=head.by_name,
            whole_body=body,
        )
        cycle.note = note
        cycle.refusal = refusal
        cycle.is_decided = True
        if requests is not None and requests.lessons.pay:
            cycle.learn = partial(self._learn_request, head, requests, body)
        self._inference = cycle
        self.cycle = cast("RequestResponseCycle", cycle)
        self._begin(cycle)
        if cycle.trace is not None:
            cycle.trace.received()

    def _begin_direct(
        self, head: KnownHead, known: KnownRequest, inputs: dict[str, Array], note: RequestNote | None
    ) -> bool:
        cycle = DirectCycle(self, head, known, self._unheard, note)
        if not cycle.begin(inputs):
            return False
        self._inference = None
        self._turn = self.cycle = cast("RequestResponseCycle", cycle)
        return True

    def _learn_request(self, head: KnownHead, requests: KnownRequests, body: bytes, request: InferenceRequest) -> None:
        with suppress(OrtolanError):
            requests.learn(body, head.json_bytes, self.core.direct.form(request), request)
            self._heads.learned()

    def _learn(self, data: bytes, asked: InferenceCycle) -> None:
        """``data`` was all of the request ``asked``, if its head says so."""
        size = declared_bytes(asked)
        if not size or not asked.keep_alive or self.expect_100_continue:
            return
        if size > self._service.app.body_limits.of_inference(asked).most_bytes:
            return
        if asked.header(b"transfer-encoding") is None and asked.header(b"content-encoding") is None:
            headers = self._heads.lasting(asked.headers)
            known = KnownHead(asked.path, asked.target, headers, dict(reversed(headers)), size)
            self._heads.learn(data, self._with_requests(known, asked))

    def _with_requests(self, head: KnownHead, asked: InferenceCycle) -> KnownHead:
        """``head`` with the requests that came with it, where its body is all that there is to look at."""
        app = self._service.app
        length = asked.header(b"inference-header-content-length")
        if length is not None and (len(length) > _MOST_DIGITS or not length.isdecimal() or not int(length)):
            return head
        if app.looks_at_headers or asked.header(b"x-request-timeout"):
            return head
        json_bytes = None if length is None else int(length)
        return replace(head, json_bytes=json_bytes, requests=self._heads.requests_with(head.path, head.headers))

    def _note_of(
        self,
        sent_id: bytes | None,
        protocol: str,
        method: str,
        target: bytes,
        by_name: Mapping[bytes, bytes],
        body_bytes: int,
    ) -> RequestNote | None:
        note = note_of(self._log, sent_id, protocol, self.client, method, target)
        if note is not None:
            note.user_agent = by_name.get(USER_AGENT, b"")
            note.bytes_in = body_bytes
        return note

    def _new_note(self, by_name: Mapping[bytes, bytes] | None = None) -> RequestNote | None:
        """The note of the request whose head was parsed last."""
        by_name = dict(reversed(self.headers)) if by_name is None else by_name
        sent_id = by_name.get(REQUEST_ID_HEADER)
        if self._log is None and not sent_id:
            return None
        length = by_name.get(b"content-length", b"")
        body_bytes = int(length) if length.isdigit() and len(length) < _MOST_LENGTH_DIGITS else -1
        if not length and b"transfer-encoding" not in by_name:
            body_bytes = 0
        method = self.parser.get_method().decode() if self.url else ""
        protocol = "HTTP/1.0" if self.url and self.parser.get_http_version() == "1.0" else "HTTP/1.1"
        return self._note_of(sent_id, protocol, method, self.url, by_name, body_bytes)

    def _noted_refusal(self, answer: Answer) -> Answer:
        if self._part is BODY:
            if self.cycle.response_started:
                return answer
            cycle = cast("object", self.cycle)
            note = cycle.note if isinstance(cycle, InferenceCycle) else note_in(self.cycle.scope)
        else:
            if self._part is not HEAD or cast("object", self.headers) is None:
                self.url, self.headers = b"", []
            note = self._new_note()
        return answer if note is None else noted(answer, note)

    def _plainly_sent(self) -> bool:
        """Whether nothing about the request asks for uvicorn's own way: its limits, other methods."""
        return self.limit_concurrency is None and self.parser.get_method() == b"POST"

    def _body_to_come(self) -> int:
        return 0 if self._inference is None else self._inference.body.to_come

    def _is_body_held(self) -> bool:
        return super()._is_body_held() and (self._inference is None or self._inference.body.is_wanted)

    def _leave(self, cycle: RequestResponseCycle) -> None:
        # It has the face of uvicorn's cycles, and is none.
        if isinstance(asked := cast("object", cycle), InferenceCycle | DirectCycle):
            asked.leave()
        else:
            super()._leave(cycle)
            gone(note_in(cycle.scope))


def _passing(app: RestApp) -> list[bytes]:
    """The headers that differ from request to request, of those that nobody looks at in an inference."""
    # With forwarding a model may look at any, and the header of a restriction is a secret that each request must have.
    if app.looks_at_headers:
        return []
    looked_at = {name.lower().encode() for name in app.rest_options.restrictions.headers}
    # Spans follow callers' from one trace setting to the next, so that those which hold now do not matter.
    names = (REQUEST_ID_HEADER,) if app.core.tracing.follows_callers else (REQUEST_ID_HEADER, *CALLERS_SPAN)
    return [name for name in names if name not in looked_at]


def _plain_target(url: bytes) -> Target | None:
    return inference_target(url.decode()) if _PLAIN.issuperset(url) else None
