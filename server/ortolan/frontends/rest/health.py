"""``/``, ``/v2`` and ``/v2/health``: who answers, and whether it should be asked."""

from fastapi import APIRouter
from starlette.responses import Response

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.rest.bodies import AliveBody, LiveBody, ReadyBody, ServerMetadataBody
from ortolan.frontends.rest.json_response import json_response


def router(core: InferenceCore) -> APIRouter:
    routes = APIRouter(tags=["server"])

    # KServe's v1.
    @routes.get("/", summary="Is the process alive? (v1)", response_model=AliveBody)
    async def alive() -> Response:
        return json_response(AliveBody())

    # Triton's clients look at the status only; KServe's read the bodies as well.
    @routes.get("/v2/health/live", summary="Is the process alive?", response_model=LiveBody)
    async def live() -> Response:
        return json_response(LiveBody())

    # Triton's code for "not ready" is 400; while stopping it answers 503. Balancers take either for a no.
    @routes.get(
        "/v2/health/ready",
        summary="Should requests be sent here?",
        response_model=ReadyBody,
        responses={
            400: {"model": ReadyBody, "description": "Not ready: a model is loading or failed"},
            503: {"model": ReadyBody, "description": "Stopping"},
        },
    )
    async def ready() -> Response:
        if await core.whole.is_ready():
            return json_response(ReadyBody(ready=True))
        return json_response(ReadyBody(ready=False), 503 if core.draining else 400)

    # As SageMaker asks: by the status alone.
    @routes.get(
        "/ping",
        summary="Should requests be sent here? (SageMaker)",
        response_class=Response,
        responses={503: {"description": "Not ready, or stopping"}},
    )
    async def ping() -> Response:
        return Response(status_code=200 if await core.whole.is_ready() else 503)

    @routes.get("/v2", summary="Server metadata", response_model=ServerMetadataBody)
    async def metadata() -> Response:
        found = core.metadata
        return json_response(
            ServerMetadataBody(name=found.name, version=found.version, extensions=list(found.extensions))
        )

    return routes
