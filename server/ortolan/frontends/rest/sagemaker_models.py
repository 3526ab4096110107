"""``/models``: how SageMaker loads, lists, asks and unloads the models of a multi-model container.

Its names are any text, and its codes are its own: 409 for a model that is loaded, 507 where there is no memory, upon
which it unloads another and tries again.
"""

import base64
from collections.abc import Awaitable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.core.placed_models import PlacedModel
from ortolan.errors import AlreadyExists, Internal, InvalidArgument, OrtolanError, OutOfMemory
from ortolan.frontends import status
from ortolan.frontends.rest.answer import error_answer
from ortolan.frontends.rest.asgi_request import response_of
from ortolan.frontends.rest.bodies import PlacedModelBody, PlacedModelsBody, PlaceRequestBody
from ortolan.frontends.rest.body_limits import BodyLimits
from ortolan.frontends.rest.documented_errors import Responses, error, inference_errors
from ortolan.frontends.rest.hosted_inference import HostedInference
from ortolan.frontends.rest.json_body import read_json_object
from ortolan.frontends.rest.json_response import json_response

_MODEL = "/models/{model_name:path}"
_LISTED_AT_ONCE = 100
_NOT_LOADED: Responses = error(404, "No such model is loaded")
_NO_MEMORY: Responses = error(507, "There is no memory for it")
_LOAD_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PlaceRequestBody.model_json_schema()}}}
}
_PAGE: dict[str, Any] = {
    "parameters": [
        {
            "name": "next_page_token",
            "in": "query",
            "required": False,
            "description": "What the page before gave as nextPageToken.",
            "schema": {"type": "string"},
        }
    ]
}
_ANY_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"*/*": {}}}}


def add_models(routes: APIRouter, core: InferenceCore, hosted: HostedInference, limits: BodyLimits) -> None:
    @routes.post(
        "/models",
        summary="Load a model",
        response_class=Response,
        responses=error(400, "The model cannot be loaded")
        | error(404, "The directory is not there")
        | error(409, "A model of that name is loaded")
        | _NO_MEMORY,
        openapi_extra=_LOAD_BODY,
    )
    async def load(request: Request) -> Response:
        document = await read_json_object(request, limits.document)
        name, url = _text(document, "model_name"), _text(document, "url")
        return await _told(_done(core.whole.place(name, url)))

    @routes.get(
        "/models",
        summary="The models that are loaded",
        response_model=PlacedModelsBody,
        responses=error(400, "The token is none of this server's"),
        openapi_extra=_PAGE,
    )
    async def listed(request: Request) -> Response:
        page, token = page_of(core.placed.all(), request.query_params.get("next_page_token", ""))
        return json_response(PlacedModelsBody(models=[_body(placed) for placed in page], nextPageToken=token))

    @routes.get(_MODEL, summary="A model that is loaded", response_model=PlacedModelBody, responses=_NOT_LOADED)
    async def shown(model_name: str) -> Response:
        return json_response(_body(core.placed.find(model_name)))

    @routes.delete(_MODEL, summary="Unload a model", response_class=Response, responses=_NOT_LOADED)
    async def unload(model_name: str) -> Response:
        return await _told(_done(core.whole.displace(model_name)))

    @routes.post(
        _MODEL + "/invoke",
        summary="Infer with a model",
        response_class=Response,
        responses=inference_errors() | _NO_MEMORY,
        openapi_extra=_ANY_BODY,
    )
    async def invoke(model_name: str, request: Request) -> Response:
        placed = core.placed.find(model_name)
        answered = hosted.answer(placed.served_as, request.scope, request.receive)
        return await _told(_responded(answered))


def page_of(models: Sequence[PlacedModel], token: str) -> tuple[Sequence[PlacedModel], str | None]:
    """The page of ``models``, in the order of their names, that ``token`` asks for, "" for the first; and the token of
    the next one, if there is any.

    Raises InvalidArgument for a token that none of these was.
    """
    after = _name_of(token)
    left = [model for model in models if not after or model.name > after]
    page = left[:_LISTED_AT_ONCE]
    return page, _token_of(page[-1].name) if len(left) > len(page) else None


async def _told(work: Awaitable[Response]) -> Response:
    """What comes of ``work``, with the platform's codes for what it looks for."""
    try:
        return await work
    except (AlreadyExists, OutOfMemory) as refusal:
        return _refused(refusal)
    except MemoryError as lack:
        return _refused(status.foreseen(lack) or Internal(status.INTERNAL_MESSAGE))


def _refused(refusal: OrtolanError) -> Response:
    return response_of(error_answer(refusal)._replace(status=status.sagemaker_status(refusal)))


async def _done(work: Awaitable[None]) -> Response:
    await work
    return Response(b"{}", media_type="application/json")


async def _responded(work: Awaitable[Any]) -> Response:
    return response_of(await work)


def _body(placed: PlacedModel) -> PlacedModelBody:
    return PlacedModelBody(modelName=placed.name, modelUrl=placed.url)


def _text(document: Any, member: str) -> str:
    value = document.get(member)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"the request's JSON must have '{member}', a text that is not empty")
    return value


def _token_of(name: str) -> str:
    """Where a page ended, so that the next begins behind it whatever was loaded or unloaded between."""
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode()


def _name_of(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode("utf-8", "surrogatepass")
    except ValueError as error:
        raise InvalidArgument("'next_page_token' is none that this server gave") from error
