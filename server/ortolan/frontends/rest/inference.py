"""``POST /v2/models/{model}[/versions/{version}]/infer``: the hot route, on plain ASGI below FastAPI."""

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.request_body import header, read_body
from ortolan.inference.request import InferenceRequest
from ortolan.protocol import json_codec

_JSON = b"application/json"
_OCTETS = b"application/octet-stream"


class InferenceEndpoint:
    """The ASGI application behind the route; errors rise to the application's error report."""

    def __init__(self, core: InferenceCore, max_body_bytes: int) -> None:
        self._core = core
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = header(scope, b"content-encoding")
        if encoding not in (None, "identity"):
            raise InvalidArgument(f"Content-Encoding '{encoding[:32]}' is not supported; send the body uncompressed")
        body = await read_body(scope, receive, self._max_body_bytes)
        request = self._decode(scope, body)
        response = await self._core.infer(request)
        encoded = json_codec.encode_response(response, request)
        await send(_start(encoded.header_length, len(encoded.body)))
        await send({"type": "http.response.body", "body": encoded.body})

    def _decode(self, scope: Scope, body: bytes) -> InferenceRequest:
        params = scope["path_params"]
        name, version = params["model_name"], params.get("model_version", "")
        length = header(scope, b"inference-header-content-length")
        if json_codec.is_raw_request(length):
            return json_codec.decode_raw_request(name, version, body, self._core.signature(name, version))
        return json_codec.decode_request(name, version, body, length)


def _start(header_length: int | None, size: int) -> dict[str, object]:
    headers = [(b"content-length", b"%d" % size)]
    if header_length is None:
        headers.append((b"content-type", _JSON))
    else:
        headers.append((b"content-type", _OCTETS))
        headers.append((b"inference-header-content-length", b"%d" % header_length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def routes(core: InferenceCore, max_body_bytes: int) -> list[Route]:
    endpoint = InferenceEndpoint(core, max_body_bytes)
    return [
        Route(path, endpoint, methods=["POST"], include_in_schema=False)
        for path in (
            "/v2/models/{model_name}/infer",
            "/v2/models/{model_name}/versions/{model_version}/infer",
        )
    ]
