"""An inference by a route that names neither model nor protocol: the body's type, or its JSON, says which it is.

    application/vnd.….binary+json;json-header-size=N   the protocol's JSON and binary tensors behind it
    application/octet-stream                           the same by Inference-Header-Content-Length; without it a raw
                                                       request: the elements of the model's only input
    any other, or none                                 JSON: "instances" as in KServe's v1, else the protocol's

The answer has the form of the request. One with binary tensors has the platform's content type, unless the request came
with the protocol's header.
"""

from starlette.types import Receive, Scope

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.asgi_request import AsgiRequest
from ortolan.frontends.rest.binary_types import HEADER_LENGTH, BinaryType
from ortolan.frontends.rest.inference import InferenceEndpoint
from ortolan.frontends.rest.inference_exchange import InferenceExchange
from ortolan.frontends.rest.kserve_v1 import predicted
from ortolan.protocol.json_document import BrokenJson, parse_object

_RAW = "application/octet-stream"
_ROWS = "instances"


class HostedInference:
    """Answers such requests for one platform."""

    def __init__(
        self, core: InferenceCore, exchange: InferenceExchange, endpoint: InferenceEndpoint, binary: BinaryType
    ) -> None:
        self._core = core
        self._exchange = exchange
        self._endpoint = endpoint
        self._binary = binary

    async def answer(self, model: str, scope: Scope, receive: Receive) -> Answer:
        """The successful answer of ``model``; raises OrtolanError kinds for all that is wrong with the request."""
        asked = AsgiRequest(scope, receive)
        if asked.header(HEADER_LENGTH) is not None:
            return await self._endpoint.inferred(model, "", asked)
        length = self._length(asked.header(b"content-type") or "")
        if length is None:
            return self._binary.told(await self._of_json(model, asked))
        said = {**scope, "headers": [*scope["headers"], (HEADER_LENGTH, length.encode("latin-1"))]}
        return self._binary.told(await self._endpoint.inferred(model, "", AsgiRequest(said, receive)))

    def _length(self, content_type: str) -> str | None:
        if content_type.strip().lower().startswith(_RAW):
            return "0"
        return self._binary.header_length(content_type)

    async def _of_json(self, model: str, asked: AsgiRequest) -> Answer:
        body = bytes(await self._exchange.body(asked))
        try:
            if _has_rows(body):
                return await predicted(self._core, self._exchange, model, body, asked)
            # It is read by now: the steps of an inference find it where they look for one that came with its head.
            asked.whole_body = body
            return await self._endpoint.inferred(model, "", asked)
        except BrokenJson as error:
            raise InvalidArgument(
                f"{error.message}; expected JSON, or binary data of the type {self._binary.name};json-header-size=N or "
                f"{_RAW}"
            ) from error


def _has_rows(body: bytes) -> bool:
    """Whether the JSON has "instances" at its top. An empty body is refused as JSON."""
    # To look for the word is some hundred times cheaper than to parse a body twice.
    return not body or (f'"{_ROWS}"'.encode() in body and _ROWS in parse_object(body))
