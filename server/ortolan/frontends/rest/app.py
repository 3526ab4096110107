"""The REST application: its routes, and what an error looks like to a client."""

import logging

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError, Unavailable
from ortolan.frontends import status
from ortolan.frontends.rest import documentation, health, inference, models, repository

_log = logging.getLogger(__name__)
_PHRASES = {404: "Not Found", 405: "Method Not Allowed"}


class RestApp(FastAPI):
    """FastAPI with our routes, our error report and a document that is made for each reader."""

    def __init__(self, core: InferenceCore, max_body_bytes: int) -> None:
        super().__init__(title="Ortolan", docs_url=None, redoc_url=None, redirect_slashes=False)
        self._core = core
        # The infer routes come first: the router tries them in order, and they are the hot ones.
        self.router.routes.extend(inference.routes(core, max_body_bytes))
        self.router.routes.extend(documentation.routes())
        for router in (health.router(core), models.router(core), repository.router(core)):
            self.include_router(router)
        self.add_exception_handler(OrtolanError, _report)
        self.add_exception_handler(HTTPException, _report_http)
        self.add_exception_handler(Exception, _report_bug)

    def openapi(self) -> dict[str, object]:
        return documentation.openapi_document(self, self._core)


def _answer(status_code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status_code, headers, "application/json")


async def _report(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, OrtolanError)  # noqa: S101 - registered for this kind
    headers = {"retry-after": "1"} if isinstance(error, Unavailable) else None
    return _answer(status.http_status(error), error.message, headers)


async def _report_http(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind
    message = _PHRASES.get(error.status_code, error.detail)
    return _answer(error.status_code, message, dict(error.headers) if error.headers else None)


async def _report_bug(request: Request, error: Exception) -> Response:
    _log.error("a request to %s failed in an unforeseen way", request.scope["path"], exc_info=error)
    return _answer(500, status.INTERNAL_MESSAGE)
