"""The two routes that Vertex AI was told: its predictions, and its health checks."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.asgi_request import response_of
from ortolan.frontends.rest.binary_types import VERTEX_AI
from ortolan.frontends.rest.documented_errors import inference_errors
from ortolan.frontends.rest.hosted_inference import HostedInference
from ortolan.frontends.rest.inference import InferenceEndpoint
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.frontends.rest.operations import operation_of
from ortolan.frontends.rest.platform_options import VertexOptions

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            f"{VERTEX_AI.name};json-header-size=N": {},
            "application/octet-stream": {},
        },
    }
}


def router(
    core: InferenceCore, exchange: InferenceExchange, endpoint: InferenceEndpoint, options: VertexOptions
) -> APIRouter:
    """Routes that come before all others: what the platform was told may be a path that means something else."""
    routes = APIRouter(tags=["Vertex AI"])
    hosted = HostedInference(core, exchange, endpoint, VERTEX_AI)

    # Only 200 is a yes, whatever the path means elsewhere: /v2/health/live says so while models load.
    @routes.get(
        options.health_route,
        summary="Should requests be sent here? (Vertex AI)",
        response_class=Response,
        responses={503: {"description": "Not ready, or stopping"}},
        include_in_schema=operation_of("GET", options.health_route) is None,
    )
    async def vertex_health() -> Response:
        return Response(status_code=200 if await core.whole.is_ready() else 503)

    if is_own_route(options.predict_route):

        @routes.post(
            options.predict_route,
            summary="Predict with the model of this server",
            response_class=Response,
            responses=inference_errors(),
            openapi_extra=_BODY,
        )
        async def vertex_predict(request: Request) -> Response:
            model = core.default_model(options.default_model)
            return response_of(await hosted.answer(model, request.scope, request.receive))

    return routes


def is_own_route(path: str) -> bool:
    """Whether the path of predictions is a route of its own, and not one of the protocol's that names a model."""
    return operation_of("POST", path) is None
