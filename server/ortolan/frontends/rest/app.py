"""The REST application: its routes, and what an error looks like to a client."""

import asyncio
import contextlib
import re
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError, Restricted
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
from ortolan.frontends.rest.categories import category_of, is_protocol
from ortolan.frontends.rest.inference import STOPPED, InferenceEndpoint, inference_target
from ortolan.frontends.rest.inference_exchange import InferenceExchange, RestOptions
from ortolan.frontends.rest.traced import end_trace, traced
from ortolan.inference.printable import CONTROL_ESCAPES

# No model has one in its name, and the router takes a line feed at a path's end for its end.
_CONTROL_CHARACTER = re.compile("[" + re.escape("".join(map(chr, CONTROL_ESCAPES))) + "]")
_CONTROL_PATH = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)")
_PHRASES = {404: "Not Found", 405: "Method Not Allowed"}


class RestApp(FastAPI):
    """FastAPI with our routes, our error report and a document that is made for each reader.

    Inference goes straight to its endpoint: FastAPI's middleware and routing would cost it 40 us for nothing. Behind an
    ``HttpConnection`` it does not even come here: that asks ``refusal`` and ``inference`` itself.
    """

    def __init__(self, core: InferenceCore, options: RestOptions) -> None:
        super().__init__(title="Ortolan", docs_url=None, redoc_url=None, redirect_slashes=False)
        self.core = core
        self.max_body_bytes = options.max_body_bytes
        self.held_bytes = options.held_bytes
        self.looks_at_headers = bool(options.forwarding)
        """Whether a request's headers are more than HTTP's: models are told some of them."""
        self._restrictions = options.restrictions
        exchange = InferenceExchange(core, options)
        self.inference = InferenceEndpoint(core, exchange)
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
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.core.draining:
            send = _closing(send)
        path = scope["path"]
        refusal = self.refusal(path, lambda name: AsgiRequest(scope, receive).header(name))
        if refusal is not None:
            await send_answer(refusal, send)
            return
        if self.core.tracing.on:
            receive, send = traced(scope, receive, send)
        target = inference_target(path)
        if target is None:
            await self._route(scope, receive, send)
        elif scope["method"] != "POST":
            await send_answer(message_answer(405, _PHRASES[405], [(b"allow", b"POST")]), send)
        elif (answer := await self.inference.answer(path, target, AsgiRequest(scope, receive))) is not None:
            await send_answer(answer, send)

    def refusal(self, path: str, header: Callable[[bytes], str | None]) -> Answer | None:
        """What a request with this path and these headers is told before it comes to a route; None if it may."""
        if _leads_nowhere(path):
            return message_answer(404, _PHRASES[404])
        if not self._restrictions:
            return None
        category = category_of(path)
        if category is None:
            # No route of ours has such a path; were there one, it must not be open because no category is its.
            return error_answer(Restricted("This API is restricted")) if is_protocol(path) else None
        try:
            self._restrictions.check(category, lambda name: header(name.encode()))
        except Restricted as error:
            return error_answer(error)
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
                await send_answer(error_answer(STOPPED), send)
        finally:
            end_trace(scope)

    def openapi(self) -> dict[str, object]:
        return documentation.openapi_document(self, self.core, self._restrictions)


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


async def _report(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, OrtolanError)  # noqa: S101 - registered for this kind
    return response_of(error_answer(error))


async def _report_http(request: Request, error: Exception) -> Response:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind
    message = _PHRASES.get(error.status_code, error.detail)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    route = request.scope.get("route")
    # The router names the methods of the first route with this path only. What a route says itself stands.
    if error.status_code == 405 and route is not None and request.method not in route.methods:
        headers = [(b"allow", ", ".join(sorted(request.app.methods_of[route.path])).encode())]
    return response_of(message_answer(error.status_code, message, headers))


async def _report_bug(request: Request, error: Exception) -> Response:
    return response_of(bug_answer(request.scope["path"], error))
