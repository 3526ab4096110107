"""``/v2/trace/setting`` and ``/v2/models/{model}/trace/setting``: which requests are traced."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.core.trace_settings import ALL_MODELS, TraceSettings
from ortolan.frontends.rest.bodies import ErrorBody, TraceChangeBody, TraceSettingsBody
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.json_body import read_json_object
from ortolan.frontends.rest.json_response import json_response

_ALL = "/v2/trace/setting"
_MODEL = "/v2/models/{model_name}/trace/setting"
_Responses = dict[int | str, dict[str, Any]]
_NOT_FOUND: _Responses = {404: {"model": ErrorBody, "description": "No such model, or no version of it is ready"}}
_REFUSED: _Responses = {
    400: {"model": ErrorBody, "description": "A setting or its value is not known"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    415: {"model": ErrorBody, "description": "The body's Content-Encoding is not known"},
    501: {"model": ErrorBody, "description": "The setting cannot be changed over the network"},
}
_CHANGE = {"requestBody": {"content": {"application/json": {"schema": TraceChangeBody.model_json_schema()}}}}


def router(core: InferenceCore, limit: BodyLimit) -> APIRouter:
    routes = APIRouter(tags=["trace"])

    @routes.get(_ALL, summary="Trace settings of all models", response_model=TraceSettingsBody)
    async def trace_settings() -> Response:
        return _answer(core.trace_settings(ALL_MODELS))

    @routes.post(
        _ALL,
        summary="Change the trace settings of all models",
        response_model=TraceSettingsBody,
        responses=_REFUSED,
        openapi_extra=_CHANGE,
    )
    async def change_trace_settings(request: Request) -> Response:
        change = await read_json_object(request, limit)
        return _answer(await core.whole.change_trace_settings(ALL_MODELS, change))

    @routes.get(_MODEL, summary="Trace settings of a model", response_model=TraceSettingsBody, responses=_NOT_FOUND)
    async def model_trace_settings(model_name: str) -> Response:
        return _answer(core.trace_settings(model_name))

    @routes.post(
        _MODEL,
        summary="Change the trace settings of a model",
        response_model=TraceSettingsBody,
        responses=_REFUSED | _NOT_FOUND,
        openapi_extra=_CHANGE,
    )
    async def change_model_trace_settings(model_name: str, request: Request) -> Response:
        change = await read_json_object(request, limit)
        return _answer(await core.whole.change_trace_settings(model_name, change))

    return routes


def _answer(settings: TraceSettings) -> Response:
    told = settings.as_answer()
    body = {name: texts if name == "trace_level" else texts[0] for name, texts in told.items()}
    return json_response(TraceSettingsBody.model_validate(body))
