"""``/v2/models/{model}[/versions/{version}]/generate`` and ``…/generate_stream``: flat JSON, whole or as an event.

Models here give one response to a request, so a stream is one event. It is made before anything is sent: whatever goes
wrong is an ordinary error with its status, and nothing can go wrong afterwards.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.asgi_request import AsgiRequest, response_of
from ortolan.frontends.rest.bodies import GenerateResponseBody
from ortolan.frontends.rest.documented_errors import Responses, inference_errors
from ortolan.frontends.rest.http_request import HttpRequest
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.inference.request import InferenceResponse
from ortolan.protocol import generate_codec

_MODEL = "/v2/models/{model_name}"
_VERSION = _MODEL + "/versions/{model_version}"
_Endpoint = Callable[[str, str, Request], Awaitable[Response]]

_VALUE = {"type": ["string", "number", "boolean"]}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "description": "Values by input. Other members are parameters of the request.",
    "properties": {
        "id": {"type": "string", "description": "Comes back in the answer."},
        "parameters": {"type": "object", "additionalProperties": {"anyOf": [_VALUE, {"type": "array"}]}},
    },
    "additionalProperties": {"anyOf": [_VALUE, {"type": "array"}]},
}
_EVENTS = b"text/event-stream; charset=utf-8"
_EVENT: Responses = {
    200: {
        "description": "One event, whose data is the answer of 'generate'",
        "content": {"text/event-stream": {"example": 'data: {"model_name":"m","model_version":"1","text":"hi"}\n\n'}},
    }
}


def router(core: InferenceCore, exchange: InferenceExchange) -> APIRouter:
    routes = APIRouter(tags=["inference"])

    async def inferred(name: str, version: str, asked: HttpRequest) -> tuple[InferenceResponse, bytes, int]:
        """The response, its text and when its encoding began."""
        body = bytes(await exchange.body(asked))
        request = generate_codec.decode_request(name, version, body, await core.signature(name, version))
        response = await exchange.infer(request, asked)
        encode_start_ns = time.monotonic_ns()
        return response, generate_codec.encode_response(response), encode_start_ns

    async def generate(model_name: str, model_version: str, request: Request) -> Response:
        asked = AsgiRequest(request.scope, request.receive)
        response, text, start_ns = await inferred(model_name, model_version, asked)
        return response_of(await exchange.answer((text,), b"application/json", asked, response, start_ns))

    async def generate_stream(model_name: str, model_version: str, request: Request) -> Response:
        asked = AsgiRequest(request.scope, request.receive)
        response, text, start_ns = await inferred(model_name, model_version, asked)
        event = generate_codec.event(text)
        return response_of(await exchange.answer((event,), _EVENTS, asked, response, start_ns))

    whole: Responses = {200: {"model": GenerateResponseBody, "description": "The outputs"}}
    for answer, tail, summary, success in (
        (generate, "/generate", "Generate with a model", whole),
        (generate_stream, "/generate_stream", "Generate an event with a model", _EVENT),
    ):
        for path, suffix, endpoint in ((_MODEL, "", _with_newest(answer)), (_VERSION, " version", answer)):
            routes.add_api_route(
                path + tail,
                endpoint,
                methods=["POST"],
                summary=summary + suffix,
                response_class=Response,
                responses=success | inference_errors(),
                openapi_extra={
                    "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}}
                },
                name=tail[1:] + suffix.replace(" ", "_"),
            )
    return routes


def _with_newest(answer: _Endpoint) -> Callable[[str, Request], Awaitable[Response]]:
    """``answer`` for paths without a version. With a default there, FastAPI would take the version from the query."""

    async def answer_with_newest(model_name: str, request: Request) -> Response:
        return await answer(model_name, "", request)

    return answer_with_newest
