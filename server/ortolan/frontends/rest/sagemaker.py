"""``/invocations``: what SageMaker asks of a container with one model, beside ``/ping``.

The platform takes headers away but for a few of its own and the content type, and adds some that mean nothing here.
"""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.asgi_request import response_of
from ortolan.frontends.rest.binary_types import SAGEMAKER
from ortolan.frontends.rest.documented_errors import inference_errors
from ortolan.frontends.rest.hosted_inference import HostedInference
from ortolan.frontends.rest.inference import InferenceEndpoint
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.frontends.rest.platform_options import SageMakerOptions
from ortolan.frontends.rest.sagemaker_models import add_models

INVOCATIONS = "/invocations"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            f"{SAGEMAKER.name};json-header-size=N": {},
            "application/octet-stream": {},
        },
    }
}


def router(
    core: InferenceCore, exchange: InferenceExchange, endpoint: InferenceEndpoint, options: SageMakerOptions
) -> APIRouter:
    routes = APIRouter(tags=["SageMaker"])
    hosted = HostedInference(core, exchange, endpoint, SAGEMAKER)
    if not options.pings_readiness:
        _add_ping(routes)
    if options.multi_model:
        add_models(routes, core, hosted, exchange.limits)
        return routes

    @routes.post(
        INVOCATIONS,
        summary="Infer with the model of this server",
        response_class=Response,
        responses=inference_errors(),
        openapi_extra=BODY,
    )
    async def invocations(request: Request) -> Response:
        model = core.default_model(options.default_model)
        return response_of(await hosted.answer(model, request.scope, request.receive))

    return routes


def _add_ping(routes: APIRouter) -> None:
    """Before the one that says whether the server is ready."""

    @routes.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        return Response()
