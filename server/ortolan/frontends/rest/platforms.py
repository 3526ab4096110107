"""The hosting platforms that may ask this server: their routes, which operations these are, what leads elsewhere."""

import re
from contextlib import suppress

from fastapi import APIRouter
from starlette.types import Message, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError
from ortolan.frontends.access.operations import OPERATIONS, Operation
from ortolan.frontends.rest import sagemaker, vertex
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.binary_types import HEADER_LENGTH, VERTEX_AI
from ortolan.frontends.rest.inference import InferenceEndpoint
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.frontends.rest.operations import Asked
from ortolan.frontends.rest.platform_options import PlatformOptions
from ortolan.frontends.rest.sagemaker import INVOCATIONS
from ortolan.frontends.rest.vertex_redirect import REDIRECT, redirected

_INFER, _READY = OPERATIONS["ModelInfer"], OPERATIONS["ServerReady"]
_INVOKE = re.compile(r"/models/(?P<model>.+)/invoke", re.DOTALL)
_ONE = re.compile(r"/models/(?P<model>.+)", re.DOTALL)
_OF_ALL = {"POST": OPERATIONS["RepositoryModelLoad"], "GET": OPERATIONS["RepositoryIndex"]}
_OF_ONE = {"DELETE": OPERATIONS["RepositoryModelUnload"], "GET": OPERATIONS["ModelReady"]}


class Platforms:
    """Those that the server is on. Lives on the event loop."""

    def __init__(self, core: InferenceCore, options: PlatformOptions) -> None:
        self._core = core
        self._sagemaker = options.sagemaker
        self._vertex = options.vertex
        self.redirect = self._vertex is not None or (
            self._sagemaker is not None and self._sagemaker.inference_type != "infer"
        )
        """Whether a request may be meant for another path than it came to."""

    def routers(self, exchange: InferenceExchange, endpoint: InferenceEndpoint) -> list[APIRouter]:
        """Their routes, which come before all others."""
        found = []
        if self._sagemaker is not None:
            found.append(sagemaker.router(self._core, exchange, endpoint, self._sagemaker))
        if self._vertex is not None:
            found.append(vertex.router(self._core, exchange, endpoint, self._vertex))
        return found

    def operation_of(self, method: str, path: str) -> Asked | None:
        """What is asked by a route of a platform; None for all other routes."""
        operation = self._operations(path).get(_answered_as(method))
        return None if operation is None else Asked(operation, self._model(operation, path))

    def category_of(self, method: str, path: str) -> str | None:
        """Triton's category of a platform's route; None for all other routes.

        The method decides: ``/models/a/invoke`` is where the model ``a`` infers, and the model ``a/invoke`` itself.
        """
        operations = self._operations(path)
        operation = operations.get(_answered_as(method)) or next(iter(operations.values()), None)
        return None if operation is None else operation.category

    def redirected(self, scope: Scope, send: Send) -> tuple[Scope, Send]:
        """The request as it is meant, and how it is answered. Raises Forbidden where it may not lead there."""
        if scope["method"] != "POST":
            return scope, send
        if self._vertex is not None and scope["path"] == self._vertex.predict_route:
            return _as_vertex_means(scope, send)
        kind = self._generating(scope["path"])
        # Without a model it stays as it is, and its own route says why, to who may ask.
        if kind and (model := self._default_model(INVOCATIONS)):
            scope = {**scope, "path": f"/v2/models/{model}/{kind}"}
        return scope, send

    def _generating(self, path: str) -> str:
        """What generates for SageMaker's invocations; "" for all that does not."""
        options = self._sagemaker
        if options is None or options.multi_model or path != INVOCATIONS or options.inference_type == "infer":
            return ""
        return options.inference_type

    def _operations(self, path: str) -> dict[str, Operation]:
        """What each method comes to."""
        if self._vertex is not None:
            if path == self._vertex.predict_route and vertex.is_own_route(path):
                return {"POST": _INFER}
            if path == self._vertex.health_route:
                return {"GET": _READY}
        if self._sagemaker is None:
            return {}
        if not self._sagemaker.multi_model:
            return {"POST": _INFER} if path == INVOCATIONS else {}
        if path == "/models":
            return _OF_ALL
        if _INVOKE.fullmatch(path):
            return {"POST": _INFER, **_OF_ONE}
        return _OF_ONE if _ONE.fullmatch(path) else {}

    def _model(self, operation: Operation, path: str) -> str | None:
        """The model that a request to ``path`` is about; None where that cannot be told, or it is about all."""
        if self._sagemaker is not None and self._sagemaker.multi_model:
            found = (_INVOKE if operation is _INFER else _ONE).fullmatch(path)
            if found is not None:
                return found["model"]
        return self._default_model(path)

    def _default_model(self, path: str) -> str | None:
        for options, route in (
            (self._sagemaker, INVOCATIONS),
            (self._vertex, self._vertex and self._vertex.predict_route),
        ):
            if options is not None and path == route:
                with suppress(OrtolanError):
                    return self._core.default_model(options.default_model)
        return None


def _answered_as(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _as_vertex_means(scope: Scope, send: Send) -> tuple[Scope, Send]:
    headers = dict(reversed(scope["headers"]))
    text = headers.get(REDIRECT)
    if text is None:
        return scope, send
    method, path = redirected(str(text, "latin-1"))
    meant = {**scope, "method": method, "path": path}
    length = VERTEX_AI.header_length(str(headers.get(b"content-type", b""), "latin-1"))
    if length is None:
        return meant, send
    meant["headers"] = [*scope["headers"], (HEADER_LENGTH, length.encode("latin-1"))]
    return meant, _in_vertex_type(send)


def _in_vertex_type(send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = Answer(message["status"], list(message.get("headers", ())), ())
            message = {**message, "headers": VERTEX_AI.told(answer).headers}
        await send(message)

    return told
