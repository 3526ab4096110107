"""``GET /metrics``: as an application for a port of its own, and as a route beside those of REST."""

from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ortolan.errors import Unavailable
from ortolan.frontends.metrics.exposition import CONTENT_TYPE
from ortolan.frontends.metrics.page import MetricsPage


def metrics_app(page: MetricsPage) -> Starlette:
    """The application of the metrics port."""

    async def metrics(request: Request) -> Response:  # noqa: ARG001
        closing = {"connection": "close"} if page.core.draining else {}
        try:
            return Response(await page.text(), headers={"content-type": CONTENT_TYPE, **closing})
        except Unavailable as error:
            return Response(error.message, 503)

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])


def metrics_router(page: MetricsPage) -> APIRouter:
    """The same beside the REST routes; errors rise to where theirs go."""
    routes = APIRouter(tags=["server"])

    @routes.get(
        "/metrics",
        summary="Everything that is counted, for Prometheus",
        response_class=PlainTextResponse,
        responses={503: {"description": "Another process of the server does not answer"}},
    )
    async def metrics() -> Response:
        return Response(await page.text(), headers={"content-type": CONTENT_TYPE})

    return routes
