"""``POST /v2/models/{model}[/versions/{version}]/infer``: the hot route, the same on ASGI and in the HTTP protocol."""

import asyncio
import re
import time

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument, OrtolanError, Unavailable
from ortolan.frontends.rest.answer import Answer, Headers, bug_answer, error_answer
from ortolan.frontends.rest.http_request import Body, HttpRequest
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.inference.request import InferenceRequest, InferenceResponse
from ortolan.protocol import json_codec
from ortolan.protocol.json_codec import EncodedResponse
from ortolan.protocol.json_document import BrokenJson
from ortolan.protocol.remembered_json import RememberedJson

STOPPED = Unavailable("the server stopped before this request was answered; send it to another, or again later")

_BINARY_HINT = (
    "; where binary data follow the JSON, the header Inference-Header-Content-Length says how long the JSON is (0 for "
    "a raw request), and Content-Encoding how the body is compressed"
)
_LENGTH_HINT = "; by the header Inference-Header-Content-Length the JSON is the first {} bytes of the body"
_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

Target = tuple[str, str]
"""The model and the version ("" for none) that an inference is sent to."""


def inference_target(path: str) -> Target | None:
    """Where a request with this path is to infer; None for any other path."""
    if not path.endswith("/infer"):
        return None
    found = _PATH.fullmatch(path)
    return (found[1], found[2] or "") if found else None


class InferenceEndpoint:
    """Reads, decodes, asks the core and encodes."""

    def __init__(self, core: InferenceCore, exchange: InferenceExchange) -> None:
        self._core = core
        self._exchange = exchange
        self._requests = RememberedJson()

    async def answer(self, path: str, target: Target, asked: HttpRequest) -> Answer | None:
        """The whole answer, whatever happens; None where nobody is there to hear it."""
        try:
            return await self.inferred(*target, asked)
        except OrtolanError as error:
            return error_answer(error)
        # Cancelled is who has gone, and what outlasts a stopping server's grace period; only that can still be told.
        except asyncio.CancelledError:
            return error_answer(STOPPED) if self._core.draining else None
        except Exception as error:
            return bug_answer(path, error, asked.note)

    async def inferred(self, name: str, version: str, asked: HttpRequest) -> Answer:
        """The successful answer; raises OrtolanError kinds."""
        limits = self._exchange.limits
        limits.refuse_json_part(asked)
        body = asked.whole_body or await self._exchange.body(asked, limits.of_inference(asked))
        request = await self._decoded(name, version, asked, body)
        response = await self._exchange.infer(request, asked)
        start_ns = time.monotonic_ns()
        encoded = json_codec.encode_response(response, request)
        if asked.learn is not None:
            asked.learn(request)
        return await self.encoded_answer(encoded, asked, response, start_ns)

    async def encoded_answer(
        self, encoded: EncodedResponse, asked: HttpRequest, response: InferenceResponse, start_ns: int
    ) -> Answer:
        """The answer with this body; see ``InferenceExchange.answer``."""
        content_type, extra = form_headers(encoded.header_length)
        return await self._exchange.answer(encoded.pieces, content_type, asked, response, start_ns, extra)

    async def _decoded(self, name: str, version: str, asked: HttpRequest, body: Body) -> InferenceRequest:
        header_length = asked.header(b"inference-header-content-length")
        if json_codec.is_raw_request(header_length):
            return json_codec.decode_raw_request(name, version, body, await self._core.signature(name, version))
        try:
            return self._requests.decode(name, version, body, header_length)
        except BrokenJson as error:
            if header_length is not None:
                hint = _LENGTH_HINT.format(header_length.lstrip("0"))
            elif error.is_no_text or _says_binary(asked):
                hint = _BINARY_HINT
            else:
                raise
            raise InvalidArgument(f"{error.message}{hint}") from error


def _says_binary(asked: HttpRequest) -> bool:
    return (asked.header(b"content-type") or "").lower().startswith("application/octet-stream")


def form_headers(header_length: int | None) -> tuple[bytes, Headers]:
    """The content type of an answer, and the header that says where its JSON ends."""
    if header_length is None:
        return b"application/json", []
    return b"application/octet-stream", [(b"inference-header-content-length", b"%d" % header_length)]
