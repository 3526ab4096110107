"""The REST application: its routes, and what an error looks like to a client."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.core.request_note import RequestNote
from ortolan.errors import OrtolanError, Restricted
from ortolan.frontends.access.grants import Grant
from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.rest import (
    documentation,
    generate,
    health,
    kserve_v1,
    log_settings,
    models,
    repository,
    shared_memory,
    trace_settings,
)
from ortolan.frontends.rest.answer import Answer, bug_answer, error_answer, message_answer
from ortolan.frontends.rest.asgi_request import AsgiRequest, response_of, send_answer
from ortolan.frontends.rest.documentation import Document
from ortolan.frontends.rest.inference import STOPPED, InferenceEndpoint, Target, inference_target
from ortolan.frontends.rest.inference_exchange import InferenceExchange, RestOptions
from ortolan.frontends.rest.noted import note_in, noting
from ortolan.frontends.rest.operations import category_of, is_protocol, operation_of
from ortolan.frontends.rest.platforms import Platforms
from ortolan.frontends.rest.traced import end_trace, trace_of, traced
from ortolan.frontends.tls.identity import PeerIdentity
from ortolan.inference.printable import CONTROL_ESCAPES

# No model has one in its name, and the router takes a line feed at a path's end for its end.
_CONTROL_CHARACTER = re.compile("[" + re.escape("".join(map(chr, CONTROL_ESCAPES))) + "]")
_CONTROL_PATH = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)")
_INFER = OPERATIONS["ModelInfer"]
_NOWHERE = "Not Found: no route has this path; GET /docs shows those that there are"


RawHeader = Callable[[bytes], str | None]
"""The value of a request's header by its lower-case name in bytes; None where there is none."""

PEER = "ortolan.peer"
"""What the scope of a request has that came with a certificate: what that proves."""


class Inference(Protocol):
    """A request that is plainly to infer, as far as it is looked at before that."""

    @property
    def target(self) -> Target: ...

    def header(self, name: bytes) -> str | None: ...


class RestApp(FastAPI):
    """FastAPI with our routes, our error report and a document that is made for each reader.

    Inference goes straight to its endpoint: FastAPI's middleware and routing would cost it 40 us for nothing. Behind an
    ``HttpConnection`` it does not even come here: that asks ``refusal`` and ``inference`` itself.
    """

    def __init__(self, core: InferenceCore, options: RestOptions, more: Sequence[APIRouter] = ()) -> None:
        """``more``: further routes; what each needs stands in ``operations``."""
        super().__init__(title="Ortolan", docs_url=None, redoc_url=None, redirect_slashes=False)
        self.core = core
        self.rest_options = options
        self.held_bytes = options.held_bytes
        self.looks_at_headers = bool(options.forwarding)
        """Whether a request's headers are more than HTTP's: models are told some of them."""
        self._restrictions = options.restrictions
        self._access = options.access
        self._platforms = Platforms(core, options.platforms)
        self.guards_inference = bool(options.restrictions) or options.access.needs_credentials
        """Whether a request may be kept from a model, by what it carries or does not."""
        exchange = InferenceExchange(core, options)
        self.body_limits = exchange.limits
        self.inference = InferenceEndpoint(core, exchange)
        self.router.routes.extend(documentation.routes())
        self.methods_of: dict[str, set[str]] = {}
        for router in (
            *self._platforms.routers(exchange, self.inference),
            health.router(core),
            models.router(core),
            generate.router(core, exchange),
            kserve_v1.router(core, exchange),
            repository.router(core, exchange.limits),
            trace_settings.router(core, exchange.limits.document),
            log_settings.router(core, exchange.limits.document),
            shared_memory.router(core, exchange.limits.document),
            *more,
        ):
            self.include_router(router)
            for route in router.routes:
                if isinstance(route, APIRoute):
                    self.methods_of.setdefault(route.path, set()).update(route.methods or ())
        self._document = Document(self, core, options.restrictions, options.access)
        self.add_exception_handler(OrtolanError, _report)
        self.add_exception_handler(HTTPException, _report_http)
        self.add_exception_handler(Exception, _report_bug)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        send = self._closing(send, scope["method"], scope["path"])
        note = note_in(scope)
        if note is not None:
            send = noting(send, note)
        if self._platforms.redirect:
            try:
                scope, send = self._platforms.redirected(scope, send)
            except OrtolanError as error:
                await send_answer(error_answer(error), send)
                return
        path = scope["path"]
        refusal = self.refusal(scope["method"], path, AsgiRequest(scope, receive).header, scope.get(PEER), note)
        if refusal is not None:
            _note_error(note, refusal)
            await send_answer(refusal, send)
            return
        if self.core.tracing.on:
            receive, send = traced(self.core.tracing, scope, receive, send)
            if note is not None:
                note.trace = trace_of(scope)
        target = inference_target(path)
        if target is None:
            await self._route(scope, receive, send)
        elif scope["method"] != "POST":
            await send_answer(_wrong_method("POST"), send)
        else:
            await self._infer(path, target, scope, receive, send)

    def refusal(
        self, method: str, path: str, header: RawHeader, peer: PeerIdentity | None, note: RequestNote | None = None
    ) -> Answer | None:
        """What a request is told before it comes to a route, from a client with this certificate; None if it may."""
        if _leads_nowhere(path):
            return message_answer(404, _NOWHERE)
        try:
            if self._restrictions:
                self._check_restrictions(method, path, header)
            if self._access.guards:
                self._check_access(method, path, header, peer, note)
        except OrtolanError as error:
            return error_answer(error)
        return None

    def grant_of(self, request: Request) -> Grant:
        """What who sent the request may do. Raises Unauthenticated where nobody knows any more who that is."""
        return self._access.grant(request.headers.get, request.scope.get(PEER))

    def refusal_of_inference(
        self, asked: Inference, peer: PeerIdentity | None, note: RequestNote | None = None
    ) -> Answer | None:
        """``refusal`` for a request that is plainly to infer."""
        if not self.guards_inference:
            return None
        try:
            if self._restrictions:
                self._restrictions.check(_INFER.category, _named(asked.header))
            self._access.check(_INFER, asked.target[0], _named(asked.header), peer, note)
        except OrtolanError as error:
            return error_answer(error)
        return None

    def _check_restrictions(self, method: str, path: str, header: RawHeader) -> None:
        category = category_of(path) or self._platforms.category_of(method, path)
        if category is not None:
            self._restrictions.check(category, _named(header))
        # No route of ours has such a path; were there one, it must not be open because no category is its.
        elif is_protocol(path):
            raise Restricted("This API is restricted")

    def _check_access(
        self, method: str, path: str, header: RawHeader, peer: PeerIdentity | None, note: RequestNote | None
    ) -> None:
        platforms, asked = self._platforms.operation_of(method, path), operation_of(method, path)
        if platforms is not None:
            self._access.check_platform(platforms.operation, platforms.model, _named(header), peer, note)
        elif asked is not None:
            self._access.check(asked.operation, asked.model, _named(header), peer, note)
        else:
            # Nobody without a key is told which routes there are, and none is open because it is not in the table.
            grant = self._access.grant(_named(header), peer)
            if note is not None and not grant.is_anybodys:
                note.asked_by(grant.holder)

    def _closing(self, send: Send, method: str, path: str) -> Send:
        """``send``, with errors counted. While draining each answer asks the client to connect elsewhere next time."""
        core = self.core

        async def close_after(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What is no error of a service: probes are told so while it starts and stops.
                if message["status"] >= 400 and not self._is_probe(method, path):
                    core.errors.told_status(message["status"])
                if core.draining:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return close_after

    def _is_probe(self, method: str, path: str) -> bool:
        return (category_of(path) or self._platforms.category_of(method, path)) == "health"

    async def _infer(self, path: str, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self.inference.answer(path, target, AsgiRequest(scope, receive))
            if answer is not None:
                _note_error(note_in(scope), answer)
                await send_answer(answer, send)
        finally:
            end_trace(scope)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            # What is raised past the error report was reported by it; uvicorn would log it a second time.
            with contextlib.suppress(Exception):
                await super().__call__(scope, receive, noting_send)
        # As for inference: only a stopping server cancels.
        except asyncio.CancelledError:
            if not started:
                await send_answer(error_answer(STOPPED), send)
        finally:
            end_trace(scope)

    def openapi(self) -> dict[str, object]:
        return self._document.current()


def _named(header: RawHeader) -> Callable[[str], str | None]:
    return lambda name: header(name.encode())


def _leads_nowhere(path: str) -> bool:
    """Whether a path has control characters: the router would take one at the end for none.

    Loading and unloading say themselves what is wrong with such a name.
    """
    return bool(_CONTROL_CHARACTER.search(path)) and not _CONTROL_PATH.fullmatch(path)


def _wrong_method(allowed: str) -> Answer:
    return message_answer(405, f"Method Not Allowed: this path expects {allowed}", [(b"allow", allowed.encode())])


def _note_error(note: RequestNote | None, answer: Answer) -> None:
    if note is not None:
        note.error = answer.error


async def _report(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrtolanError)  # noqa: S101 - registered for this kind
    answer = error_answer(error)
    _note_error(note_in(request.scope), answer)
    return response_of(answer)


async def _report_http(request: Request, error: Exception) -> Response:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind
    named = {name.lower(): value for name, value in (error.headers or {}).items()}
    route = request.scope.get("route")
    if error.status_code == 405 and "allow" in named:
        # The router names the methods of the first route with this path only. What a route says itself stands.
        if route is not None and request.method not in route.methods:
            named["allow"] = ", ".join(sorted(request.app.methods_of[route.path]))
        return response_of(_wrong_method(named["allow"]))
    headers = [(name.encode(), value.encode()) for name, value in named.items()]
    message = _NOWHERE if error.status_code == 404 else error.detail
    return response_of(message_answer(error.status_code, message, headers))


async def _report_bug(request: Request, error: Exception) -> Response:
    note = note_in(request.scope)
    answer = bug_answer(request.scope["path"], error, note)
    _note_error(note, answer)
    return response_of(answer)
