"""``/v2/repository``: what the model repository holds, and loading and unloading."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument, Unsupported
from ortolan.frontends.rest.bodies import ErrorBody, IndexEntryBody, IndexRequestBody
from ortolan.frontends.rest.request_body import read_body

_Responses = dict[int | str, dict[str, Any]]
_BAD: _Responses = {400: {"model": ErrorBody, "description": "The request cannot be honoured as it is"}}
_NOT_ALLOWED: _Responses = {503: {"model": ErrorBody, "description": "The control mode does not allow it"}}


def router(core: InferenceCore, max_body_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["repository"])

    @routes.post(
        "/v2/repository/index",
        summary="Every model of the repository with its versions' states",
        response_model=list[IndexEntryBody],
        responses=_BAD,
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": IndexRequestBody.model_json_schema()}}}
        },
    )
    async def index(request: Request) -> Response:
        only_ready = (await _json_object(request, max_body_bytes)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidArgument(f"'ready' expects true or false, got {type(only_ready).__name__}")
        entries = await core.index(only_ready)
        present = [
            {"name": e.name}
            | {k: v for k, v in (("version", e.version), ("state", e.state), ("reason", e.reason)) if v}
            for e in entries
        ]
        return Response(orjson.dumps(present), media_type="application/json")

    @routes.post("/v2/repository/models/{model_name}/load", summary="Load a model", responses=_BAD | _NOT_ALLOWED)
    async def load(model_name: str, request: Request) -> Response:
        parameters = (await _json_object(request, max_body_bytes)).get("parameters") or {}
        if parameters:
            raise Unsupported("loading with parameters is not supported yet: change the files in the model repository")
        await core.load(model_name)
        return Response()

    @routes.post("/v2/repository/models/{model_name}/unload", summary="Unload a model", responses=_NOT_ALLOWED | _BAD)
    async def unload(model_name: str, request: Request) -> Response:
        await _json_object(request, max_body_bytes)
        await core.unload(model_name)
        return Response()

    return routes


async def _json_object(request: Request, max_body_bytes: int) -> dict[str, object]:
    """The body as a JSON object; an empty body is an empty one."""
    body = await read_body(request.scope, request.receive, max_body_bytes)
    if not body.strip():
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"failed to parse the request JSON buffer: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"the request's body must be a JSON object, got {type(found).__name__}")
    return found
