"""A documented body as a response, without a second validation of what we built ourselves."""

from pydantic import BaseModel
from starlette.responses import Response


def json_response(body: BaseModel, status_code: int = 200) -> Response:
    return Response(body.model_dump_json(exclude_none=True), status_code, media_type="application/json")
