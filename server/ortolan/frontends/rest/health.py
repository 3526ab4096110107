"""``/v2`` and ``/v2/health``: who answers, and whether it should be asked."""

from fastapi import APIRouter
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.bodies import ServerMetadataBody
from ortolan.frontends.rest.json_response import json_response


def router(core: InferenceCore) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/v2/health/live", summary="Is the process alive?", response_class=Response)
    async def live() -> Response:
        return Response()

    # Triton's code for "not ready" is 400; while stopping it answers 503. Balancers take either for a no.
    @routes.get(
        "/v2/health/ready",
        summary="Should requests be sent here?",
        response_class=Response,
        responses={400: {"description": "Not ready: a model is loading or failed"}, 503: {"description": "Stopping"}},
    )
    async def ready() -> Response:
        if core.is_ready():
            return Response()
        return Response(status_code=503 if core.draining else 400)

    @routes.get("/v2", summary="Server metadata", response_model=ServerMetadataBody)
    async def metadata() -> Response:
        found = core.metadata
        return json_response(
            ServerMetadataBody(name=found.name, version=found.version, extensions=list(found.extensions))
        )

    return routes
