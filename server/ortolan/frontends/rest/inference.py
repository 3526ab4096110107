"""``POST /v2/models/{model}[/versions/{version}]/infer``: the hot route, on plain ASGI below FastAPI."""

import re
import time

from starlette.types import Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.inference_exchange import Headers, InferenceExchange
from ortolan.frontends.rest.request_body import header
from ortolan.inference.request import InferenceRequest
from ortolan.protocol import json_codec
from ortolan.protocol.json_document import BrokenJson

_BINARY_HINT = (
    "; where binary data follow the JSON, the header Inference-Header-Content-Length says how long the JSON is (0 for "
    "a raw request), and Content-Encoding how the body is compressed"
)
_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


def inference_path(scope: Scope) -> tuple[str, str] | None:
    """The model and the version ("" for none) that an inference is sent to; None for any other request."""
    if scope["type"] != "http" or not scope["path"].endswith("/infer"):
        return None
    found = _PATH.fullmatch(scope["path"])
    return (found[1], found[2] or "") if found else None


class InferenceEndpoint:
    """Reads, decodes, asks the core, encodes and sends; errors rise to the application's error report."""

    def __init__(self, core: InferenceCore, exchange: InferenceExchange) -> None:
        self._core = core
        self._exchange = exchange

    async def answer(self, name: str, version: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing is sent before the whole answer is there."""
        body = await self._exchange.body(scope, receive)
        request = await self._decode(name, version, scope, body)
        response = await self._exchange.infer(request, scope, receive)
        start_ns = time.monotonic_ns()
        encoded = json_codec.encode_response(response, request)
        content_type, extra = _form(encoded.header_length)
        headers, sent = await self._exchange.finished(encoded.body, content_type, scope, response, start_ns, extra)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": sent})

    async def _decode(self, name: str, version: str, scope: Scope, body: bytes) -> InferenceRequest:
        header_length = header(scope, b"inference-header-content-length")
        if json_codec.is_raw_request(header_length):
            return json_codec.decode_raw_request(name, version, body, await self._core.signature(name, version))
        try:
            return json_codec.decode_request(name, version, body, header_length)
        except BrokenJson as error:
            if header_length is None and _says_binary(scope):
                raise InvalidArgument(f"{error.message}{_BINARY_HINT}") from error
            raise


def _says_binary(scope: Scope) -> bool:
    return (header(scope, b"content-type") or "").lower().startswith("application/octet-stream")


def _form(header_length: int | None) -> tuple[str, Headers]:
    """The content type of an answer, and the header that says where its JSON ends."""
    if header_length is None:
        return "application/json", []
    return "application/octet-stream", [(b"inference-header-content-length", b"%d" % header_length)]
