"""A request's body that is one JSON object."""

from collections.abc import Mapping

from starlette.requests import Request

from ortolan.frontends.rest.asgi_request import AsgiRequest
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.request_body import read_body
from ortolan.protocol.json_document import parse_object


async def read_json_object(request: Request, limit: BodyLimit) -> Mapping[str, object]:
    """The object; an empty one for an empty body. Raises as ``read_body`` and ``parse_object`` do."""
    body = bytes(await read_body(AsgiRequest(request.scope, request.receive), limit))
    return parse_object(body) if body.strip() else {}
