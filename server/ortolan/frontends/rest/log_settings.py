"""``/v2/logging``: what is logged."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.bodies import ErrorBody, LogChangeBody, LogSettingsBody
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.json_body import read_json_object
from ortolan.frontends.rest.json_response import json_response

_Responses = dict[int | str, dict[str, Any]]
_REFUSED: _Responses = {
    400: {"model": ErrorBody, "description": "A setting or its value is not known"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    415: {"model": ErrorBody, "description": "The body's Content-Encoding is not known"},
    501: {"model": ErrorBody, "description": "The setting cannot be changed over the network"},
}
_CHANGE = {"requestBody": {"content": {"application/json": {"schema": LogChangeBody.model_json_schema()}}}}


def router(core: InferenceCore, limit: BodyLimit) -> APIRouter:
    routes = APIRouter(tags=["logging"])

    @routes.get("/v2/logging", summary="Log settings", response_model=LogSettingsBody)
    async def log_settings() -> Response:
        return _answer(core)

    @routes.post(
        "/v2/logging",
        summary="Change the log settings",
        response_model=LogSettingsBody,
        responses=_REFUSED,
        openapi_extra=_CHANGE,
    )
    async def change_log_settings(request: Request) -> Response:
        await core.whole.change_log_settings(await read_json_object(request, limit))
        return _answer(core)

    return routes


def _answer(core: InferenceCore) -> Response:
    return json_response(LogSettingsBody.model_validate(core.log_control.settings.as_answer()))
