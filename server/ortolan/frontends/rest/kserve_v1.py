"""``/v1/models``: KServe's v1 protocol, which hosts ask for when nothing else is said.

As in KServe, a model that is known but not ready is a 503, and ``:explain`` without an explainer a 501.
"""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import Unsupported
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.asgi_request import AsgiRequest, response_of
from ortolan.frontends.rest.bodies import ModelNamesBody, ModelReadyBody, PredictionsBody
from ortolan.frontends.rest.documented_errors import error, inference_errors
from ortolan.frontends.rest.http_request import HttpRequest
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.frontends.rest.json_response import json_response
from ortolan.protocol import v1_codec

_MODEL = "/v1/models/{model_name}"
_VERBS = (":predict", ":explain")
_REQUEST: dict[str, Any] = {
    "description": "Rows as 'instances' or whole tensors as 'inputs', one of the two.",
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "description": "One value a row; objects by input name for a model with several inputs.",
                }
            },
            "required": ["instances"],
        },
        {
            "type": "object",
            "properties": {
                "inputs": {
                    "type": ["array", "object", "string", "number", "boolean"],
                    "description": "The value of the only input, or values by input name.",
                }
            },
            "required": ["inputs"],
        },
    ],
}


def router(core: InferenceCore, exchange: InferenceExchange) -> APIRouter:
    routes = APIRouter(tags=["KServe v1"])
    not_found = error(404, "No such model")

    @routes.get("/v1/models", summary="The models that can be asked", response_model=ModelNamesBody)
    async def v1_models() -> Response:
        return json_response(ModelNamesBody(models=core.model_names()))

    @routes.post(
        _MODEL + ":predict",
        summary="Predict with a model",
        response_model=PredictionsBody,
        responses=inference_errors(),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}}},
    )
    async def v1_predict(model_name: str, request: Request) -> Response:
        asked = AsgiRequest(request.scope, request.receive)
        body = bytes(await exchange.body(asked))
        return response_of(await predicted(core, exchange, model_name, body, asked))

    # In no document: it is there to say so, and not to be called.
    @routes.post(_MODEL + ":explain", include_in_schema=False)
    async def v1_explain(model_name: str) -> Response:
        raise Unsupported(
            f"model '{model_name}' cannot be explained: this server has no explainers; ask ':predict' for predictions"
        )

    # After those with a verb, which its path takes in: the first says which methods are allowed.
    @routes.get(
        _MODEL,
        summary="Is a model ready?",
        response_model=ModelReadyBody,
        responses=not_found | error(503, "The model is known, but not ready"),
    )
    async def v1_model(model_name: str) -> Response:
        if model_name.endswith(_VERBS):
            raise HTTPException(405, headers={"allow": "POST"})
        core.require_ready(model_name)
        return json_response(ModelReadyBody(name=model_name, ready=True))

    return routes


async def predicted(
    core: InferenceCore, exchange: InferenceExchange, model_name: str, body: bytes, asked: HttpRequest
) -> Answer:
    """The predictions for the rows or columns in ``body``; raises OrtolanError kinds."""
    core.require_ready(model_name)
    inference, layout = v1_codec.decode_request(model_name, "", body, await core.signature(model_name, ""))
    response = await exchange.infer(inference, asked)
    encode_start_ns = time.monotonic_ns()
    text = v1_codec.encode_response(response, layout)
    return await exchange.answer((text,), b"application/json", asked, response, encode_start_ns)
