"""``POST /v2/models/{model}[/versions/{version}]/infer``: the hot route, on plain ASGI below FastAPI."""

import re
import time
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument
from ortolan.frontends.deadlines import deadline_of_header
from ortolan.frontends.rest.disconnect import cancelled_on_disconnect
from ortolan.frontends.rest.request_body import header, read_body
from ortolan.frontends.server_timing import server_timing
from ortolan.inference.request import InferenceRequest
from ortolan.protocol import json_codec

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


def inference_path(scope: Scope) -> tuple[str, str] | None:
    """The model and the version ("" for none) that an inference is sent to; None for any other request."""
    if scope["type"] != "http" or not scope["path"].endswith("/infer"):
        return None
    found = _PATH.fullmatch(scope["path"])
    return (found[1], found[2] or "") if found else None


class InferenceEndpoint:
    """Reads, decodes, asks the core, encodes and sends; errors rise to the application's error report."""

    def __init__(self, core: InferenceCore, max_body_bytes: int) -> None:
        self._core = core
        self._max_body_bytes = max_body_bytes

    async def answer(self, name: str, version: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing is sent before the whole answer is there."""
        encoding = header(scope, b"content-encoding")
        if encoding not in (None, "identity"):
            raise InvalidArgument(f"Content-Encoding '{encoding[:32]}' is not supported; send the body uncompressed")
        deadline_ns = deadline_of_header(header(scope, b"x-request-timeout"))
        body = await read_body(scope, receive, self._max_body_bytes)
        request = self._decode(name, version, header(scope, b"inference-header-content-length"), body)
        if deadline_ns:
            request = replace(request, deadline_ns=deadline_ns)
        with cancelled_on_disconnect(receive):
            response = await self._core.infer(request)
        start_ns = time.monotonic_ns()
        encoded = json_codec.encode_response(response, request)
        timing = server_timing(response.timing, time.monotonic_ns() - start_ns) if response.timing else ""
        await send(_start(encoded.header_length, len(encoded.body), timing))
        await send({"type": "http.response.body", "body": encoded.body})

    def _decode(self, name: str, version: str, header_length: str | None, body: bytes) -> InferenceRequest:
        if json_codec.is_raw_request(header_length):
            return json_codec.decode_raw_request(name, version, body, self._core.signature(name, version))
        return json_codec.decode_request(name, version, body, header_length)


def _start(header_length: int | None, size: int, timing: str) -> dict[str, object]:
    headers = [(b"content-length", b"%d" % size), (b"server-timing", timing.encode())]
    if header_length is None:
        headers.append((b"content-type", b"application/json"))
    else:
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((b"inference-header-content-length", b"%d" % header_length))
    return {"type": "http.response.start", "status": 200, "headers": headers}
