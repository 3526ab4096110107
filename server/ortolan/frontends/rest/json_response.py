"""A documented body as a response, without a second validation of what we built ourselves."""

from pydantic import BaseModel
from starlette.responses import Response


def json_response(body: BaseModel) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")
