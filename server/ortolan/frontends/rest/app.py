"""The REST application: its routes, and what an error looks like to a client."""

import asyncio
import contextlib
import logging
import re

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError, Restricted, Unavailable, UnsupportedEncoding
from ortolan.frontends import status
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
from ortolan.frontends.rest.categories import category_of, is_protocol
from ortolan.frontends.rest.compression import ENCODINGS
from ortolan.frontends.rest.inference import InferenceEndpoint, inference_path
from ortolan.frontends.rest.inference_exchange import InferenceExchange, RestOptions
from ortolan.frontends.rest.request_body import header
from ortolan.frontends.rest.traced import end_trace, traced
from ortolan.inference.printable import CONTROL_ESCAPES

_log = logging.getLogger(__name__)
# No model has one in its name, and the router takes a line feed at a path's end for its end.
_CONTROL_CHARACTER = re.compile("[" + re.escape("".join(map(chr, CONTROL_ESCAPES))) + "]")
_CONTROL_PATH = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)")
_PHRASES = {404: "Not Found", 405: "Method Not Allowed"}
_STOPPED = Unavailable("the server stopped before this request was answered; send it to another, or again later")


class RestApp(FastAPI):
    """FastAPI with our routes, our error report and a document that is made for each reader.

    Inference goes straight to its endpoint: FastAPI's middleware and routing would cost it 40 us for nothing.
    """

    def __init__(self, core: InferenceCore, options: RestOptions) -> None:
        super().__init__(title="Ortolan", docs_url=None, redoc_url=None, redirect_slashes=False)
        self._core = core
        self._restrictions = options.restrictions
        exchange = InferenceExchange(core, options)
        self._inference = InferenceEndpoint(core, exchange)
        self.router.routes.extend(documentation.routes())
        self.methods_of: dict[str, set[str]] = {}
        for router in (
            health.router(core),
            models.router(core),
            generate.router(core, exchange),
            kserve_v1.router(core, exchange),
            repository.router(core, options.max_body_bytes),
            trace_settings.router(core, options.max_body_bytes),
            log_settings.router(core, options.max_body_bytes),
            shared_memory.router(core, options.max_body_bytes),
        ):
            self.include_router(router)
            for route in router.routes:
                if isinstance(route, APIRoute):
                    self.methods_of.setdefault(route.path, set()).update(route.methods or ())
        self.add_exception_handler(OrtolanError, _report)
        self.add_exception_handler(HTTPException, _report_http)
        self.add_exception_handler(Exception, _report_bug)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._core.draining:
            send = _closing(send)
        if scope["type"] == "http" and _leads_nowhere(scope["path"]):
            await _answer(404, _PHRASES[404])(scope, receive, send)
            return
        if self._restrictions and (refusal := self._refusal(scope)):
            await _error_answer(refusal)(scope, receive, send)
            return
        if self._core.tracing.on:
            receive, send = traced(scope, receive, send)
        target = inference_path(scope)
        if target is None:
            await self._route(scope, receive, send)
        elif scope["method"] != "POST":
            await _answer(405, "Method Not Allowed", {"allow": "POST"})(scope, receive, send)
        else:
            await self._infer(*target, scope, receive, send)

    def _refusal(self, scope: Scope) -> Restricted | None:
        """Why the operator's restrictions keep this request out, where they do."""
        path = scope["path"]
        category = category_of(path)
        if category is None:
            # No route of ours has such a path; were there one, it must not be open because no category is its.
            return Restricted("This API is restricted") if is_protocol(path) else None
        try:
            self._restrictions.check(category, lambda name: header(scope, name.encode()))
        except Restricted as error:
            return error
        return None

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
                await _error_answer(_STOPPED)(scope, receive, send)
        finally:
            end_trace(scope)

    async def _infer(self, name: str, version: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inference.answer(name, version, scope, receive, send)
        except OrtolanError as error:
            await _error_answer(error)(scope, receive, send)
        # Cancelled is who has gone, and what outlasts a stopping server's grace period; only that can still be told.
        except asyncio.CancelledError:
            if self._core.draining:
                await _error_answer(_STOPPED)(scope, receive, send)
        except Exception as error:
            await _bug_answer(scope, error)(scope, receive, send)

    def openapi(self) -> dict[str, object]:
        return documentation.openapi_document(self, self._core, self._restrictions)


def _leads_nowhere(path: str) -> bool:
    """Whether a path has control characters: the router would take one at the end for none.

    Loading and unloading say themselves what is wrong with such a name.
    """
    return bool(_CONTROL_CHARACTER.search(path)) and not _CONTROL_PATH.fullmatch(path)


def _closing(send: Send) -> Send:
    """``send``, with each answer asking the client to open its next connection elsewhere."""

    async def close_after(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return close_after


def _answer(status_code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status_code, headers, "application/json")


def _error_answer(error: OrtolanError) -> Response:
    _log.debug("a request over HTTP was refused: %s", error)
    headers = None
    if isinstance(error, Unavailable):
        headers = {"retry-after": str(error.retry_after_s)}
    elif isinstance(error, UnsupportedEncoding):
        headers = {"accept-encoding": ", ".join(ENCODINGS)}
    return _answer(status.http_status(error), error.message, headers)


def _bug_answer(scope: Scope, error: Exception) -> Response:
    _log.error("a request to %r failed in an unforeseen way", scope["path"], exc_info=error)
    return _answer(500, status.INTERNAL_MESSAGE)


async def _report(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, OrtolanError)  # noqa: S101 - registered for this kind
    return _error_answer(error)


async def _report_http(request: Request, error: Exception) -> Response:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind
    message = _PHRASES.get(error.status_code, error.detail)
    headers = dict(error.headers) if error.headers else None
    route = request.scope.get("route")
    # The router names the methods of the first route with this path only. What a route says itself stands.
    if error.status_code == 405 and route is not None and request.method not in route.methods:
        headers = {"allow": ", ".join(sorted(request.app.methods_of[route.path]))}
    return _answer(error.status_code, message, headers)


async def _report_bug(request: Request, error: Exception) -> Response:
    return _bug_answer(request.scope, error)
