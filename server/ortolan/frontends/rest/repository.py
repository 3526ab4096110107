"""``/v2/repository``: what the model repository holds, and loading and unloading."""

import binascii
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.core.load_override import FILE_PREFIX
from ortolan.core.model_records import IndexEntry
from ortolan.errors import InvalidArgument, Unsupported
from ortolan.frontends.access.reach import check_load, check_unload
from ortolan.frontends.rest.bodies import (
    ErrorBody,
    IndexEntryBody,
    IndexRequestBody,
    LoadRequestBody,
    UnloadRequestBody,
)
from ortolan.frontends.rest.body_limits import BodyLimits
from ortolan.frontends.rest.disconnect import cancelled_on_disconnect
from ortolan.frontends.rest.json_body import read_json_object
from ortolan.inference.printable import printable

_Responses = dict[int | str, dict[str, Any]]
_BAD: _Responses = {
    400: {"model": ErrorBody, "description": "The request cannot be honoured as it is"},
    413: {"model": ErrorBody, "description": "The body is too large"},
}
_NOT_ALLOWED: _Responses = {503: {"model": ErrorBody, "description": "The control mode does not allow it"}}
_SHOWN = 80


def router(core: InferenceCore, limits: BodyLimits) -> APIRouter:
    routes = APIRouter(tags=["repository"])

    @routes.post(
        "/v2/repository/index",
        summary="Every model of the repository with its versions' states",
        response_model=list[IndexEntryBody],
        responses=_BAD,
        openapi_extra=_documented(IndexRequestBody),
    )
    async def index(request: Request) -> Response:
        only_ready = (await read_json_object(request, limits.document)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidArgument(f"'ready' expects true or false, got {type(only_ready).__name__}")
        shown = [_shown(entry) for entry in await core.whole.index(only_ready)]
        return Response(orjson.dumps(shown), media_type="application/json")

    @routes.post(
        "/v2/repository/models/{model_name}/load",
        summary="Load a model",
        responses=_BAD | _NOT_ALLOWED,
        response_class=Response,
        openapi_extra=_documented(LoadRequestBody),
    )
    async def load(model_name: str, request: Request) -> Response:
        parameters = _load_parameters(await read_json_object(request, limits.files))
        check_load(request.app.grant_of(request), parameters)
        with cancelled_on_disconnect(request.receive):
            await core.whole.load(model_name, parameters)
        return Response()

    @routes.post(
        "/v2/repository/models/{model_name}/unload",
        summary="Unload a model",
        responses=_NOT_ALLOWED | _BAD,
        response_class=Response,
        openapi_extra=_documented(UnloadRequestBody),
    )
    async def unload(model_name: str, request: Request) -> Response:
        parameters = _parameters(await read_json_object(request, limits.document))
        check_unload(request.app.grant_of(request), parameters)
        await core.whole.unload(model_name, parameters)
        return Response()

    # Triton's clients know these forms, and no server honours them: so they are answered, and not offered.
    @routes.post("/v2/repository/{repository_name}/index", include_in_schema=False)
    @routes.post("/v2/repository/{repository_name}/models/{model_name}/load", include_in_schema=False)
    @routes.post("/v2/repository/{repository_name}/models/{model_name}/unload", include_in_schema=False)
    async def named_repository() -> Response:
        raise Unsupported("'repository_name' specification is not supported")

    return routes


def _shown(entry: IndexEntry) -> dict[str, str]:
    """An entry of the index, without what it does not say."""
    said = (("version", entry.version), ("state", entry.state), ("reason", entry.reason))
    return {"name": entry.name} | {name: text for name, text in said if text}


def _documented(body: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": body.model_json_schema()}}}}


def _parameters(document: Mapping[str, object]) -> Mapping[str, object]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidArgument("'parameters' expects an object")
    return parameters


def _load_parameters(document: Mapping[str, object]) -> Mapping[str, object]:
    return {name: _decoded(name, value) for name, value in _parameters(document).items()}


def _decoded(name: str, value: object) -> object:
    """The content of a file, which is base64 text here; any other value as it is."""
    if not (name.startswith(FILE_PREFIX) and isinstance(value, str)):
        return value
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    # binascii.Error for what is not base64, ValueError for what is not even ASCII.
    except ValueError as error:
        raise InvalidArgument(f"load parameter '{printable(name, _SHOWN)}' is not base64 text: {error}") from error
