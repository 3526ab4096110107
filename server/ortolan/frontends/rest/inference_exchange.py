"""What every route that infers has in common: reading its request, asking the core, and the form of its answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response
from starlette.types import Receive, Scope

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.deadlines import deadline_of_header
from ortolan.frontends.header_forwarding import NO_FORWARDING, HeaderForwarding
from ortolan.frontends.rest.compression import compressed, pays, preferred_encoding
from ortolan.frontends.rest.disconnect import cancelled_on_disconnect
from ortolan.frontends.rest.request_body import header, read_body
from ortolan.frontends.rest.traced import trace_of
from ortolan.frontends.restriction import NO_RESTRICTIONS, Restrictions
from ortolan.frontends.server_timing import server_timing
from ortolan.inference.request import InferenceRequest, InferenceResponse

Headers = list[tuple[bytes, bytes]]

# What is compressed within a millisecond needs no thread.
_QUICK_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class RestOptions:
    """What the operator chose for the REST frontend."""

    max_body_bytes: int
    restrictions: Restrictions = NO_RESTRICTIONS
    forwarding: HeaderForwarding = NO_FORWARDING


class InferenceExchange:
    """The steps of one inference over HTTP; errors rise to the application's error report."""

    def __init__(self, core: InferenceCore, options: RestOptions) -> None:
        self._core = core
        self._options = options

    async def body(self, scope: Scope, receive: Receive) -> bytes:
        """The request's whole body, decompressed. Raises as ``request_body.read_body`` does."""
        return await read_body(scope, receive, self._options.max_body_bytes)

    async def infer(self, request: InferenceRequest, scope: Scope, receive: Receive) -> InferenceResponse:
        """The core's answer, by the deadline that the headers set; given up when the client goes away."""
        deadline_ns = deadline_of_header(header(scope, b"x-request-timeout"))
        if deadline_ns:
            request = replace(request, deadline_ns=deadline_ns)
        if self._options.forwarding:
            named = ((str(name, "latin-1"), str(value, "latin-1")) for name, value in scope["headers"])
            request = replace(request, parameters=self._options.forwarding.parameters(named, request.parameters))
        with cancelled_on_disconnect(receive):
            return await self._core.infer(request, trace_of(scope))

    async def answer(
        self,
        body: bytes,
        content_type: str,
        scope: Scope,
        response: InferenceResponse,
        encode_start_ns: int,
        extra_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Response:
        """A complete answer for routes inside FastAPI; see ``finished``."""
        headers, sent = await self.finished(body, content_type, scope, response, encode_start_ns, extra_headers)
        answer = Response(sent)
        answer.raw_headers = headers
        return answer

    async def finished(
        self,
        body: bytes,
        content_type: str,
        scope: Scope,
        response: InferenceResponse,
        encode_start_ns: int,
        extra_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> tuple[Headers, bytes]:
        """Headers and body of a successful answer: compressed as the client likes it, with where its time went.

        ``encode_start_ns`` is when encoding ``body`` began, on the monotonic clock.
        """
        encode_ns = time.monotonic_ns() - encode_start_ns
        headers: Headers = [(b"content-type", content_type.encode()), *extra_headers]
        accepted = header(scope, b"accept-encoding")
        encoding = preferred_encoding(accepted) if accepted and pays(body) else None
        if encoding:
            body = await _compressed(body, encoding)
            headers.append((b"content-encoding", encoding.encode()))
        headers.append((b"content-length", b"%d" % len(body)))
        if response.timing:
            headers.append((b"server-timing", server_timing(response.timing, encode_ns).encode()))
        return headers, body


async def _compressed(body: bytes, encoding: str) -> bytes:
    if len(body) < _QUICK_BYTES:
        return compressed(body, encoding)
    return await asyncio.to_thread(compressed, body, encoding)
