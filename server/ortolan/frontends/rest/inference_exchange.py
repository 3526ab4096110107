"""What every route that infers has in common: reading its request, asking the core, and the form of its answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ortolan.core.inference_core import InferenceCore
from ortolan.frontends.access.access import Access
from ortolan.frontends.deadlines import deadline_of_header
from ortolan.frontends.header_forwarding import NO_FORWARDING, HeaderForwarding
from ortolan.frontends.rest.answer import Answer, Headers
from ortolan.frontends.rest.body_limits import BodyLimit, BodyLimits
from ortolan.frontends.rest.compression import compressed, pays, preferred_encoding
from ortolan.frontends.rest.hosts import ANY_HOST, AllowedHosts
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.http_request import Body, HttpRequest
from ortolan.frontends.rest.platform_options import NO_PLATFORM, PlatformOptions
from ortolan.frontends.rest.request_body import read_body
from ortolan.frontends.restriction import NO_RESTRICTIONS, Restrictions
from ortolan.frontends.server_timing import server_timing
from ortolan.inference.request import InferenceRequest, InferenceResponse

# What is compressed within a millisecond needs no thread.
_QUICK_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class RestOptions:
    """What the operator chose for the REST frontend.

    ``max_json_bytes``: how many bytes of a body may be JSON; a load's may be more. ``held_bytes``: what may wait over
    HTTP/1 for the rest of requests, and for clients to take their answers. ``limits``: of one connection there.
    """

    max_body_bytes: int
    max_json_bytes: int = 16 << 20
    restrictions: Restrictions = NO_RESTRICTIONS
    forwarding: HeaderForwarding = NO_FORWARDING
    held_bytes: int = 1 << 30
    limits: HttpLimits = field(default_factory=HttpLimits)
    hosts: AllowedHosts = ANY_HOST
    access: Access = field(default_factory=lambda: Access(None))
    platforms: PlatformOptions = NO_PLATFORM


class InferenceExchange:
    """The steps of one inference over HTTP; errors rise to whoever made the request of what the client sent."""

    def __init__(self, core: InferenceCore, options: RestOptions) -> None:
        self._core = core
        self._options = options
        self.limits = BodyLimits(options.max_body_bytes, options.max_json_bytes)

    async def body(self, asked: HttpRequest, limit: BodyLimit | None = None) -> Body:
        """The request's whole body, decompressed: JSON, unless its ``limit`` is another's.

        Raises as ``request_body.read_body`` does.
        """
        return await read_body(asked, limit or self.limits.json)

    async def infer(self, request: InferenceRequest, asked: HttpRequest) -> InferenceResponse:
        """The core's answer, by the deadline that the headers set; given up when the client goes away."""
        deadline_ns = deadline_of_header(asked.header(b"x-request-timeout"))
        if deadline_ns:
            request = replace(request, deadline_ns=deadline_ns)
        if self._options.forwarding:
            named = ((str(name, "latin-1"), str(value, "latin-1")) for name, value in asked.headers)
            request = replace(request, parameters=self._options.forwarding.parameters(named, request.parameters))
        if asked.note is None:
            with asked.watched():
                return await self._core.infer(request, asked.trace)
        asked.note.infers(request)
        with asked.watched():
            response = await self._core.infer(request, asked.trace)
        asked.note.inferred(response)
        return response

    async def answer(
        self,
        body: Sequence[bytes | memoryview],
        content_type: bytes,
        asked: HttpRequest,
        response: InferenceResponse,
        encode_start_ns: int,
        extra_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Answer:
        """A successful answer with this body, in pieces: compressed as the client likes it, with where its time went.

        ``encode_start_ns`` is when encoding ``body`` began, on the monotonic clock.
        """
        encode_ns = time.monotonic_ns() - encode_start_ns
        headers: Headers = [(b"content-type", content_type), *extra_headers]
        size = sum(map(len, body))
        accepted = asked.header(b"accept-encoding")
        encoding = preferred_encoding(accepted) if accepted and pays(size) else None
        if encoding:
            body = await _compressed(body, size, encoding)
            size = sum(map(len, body))
            headers.append((b"content-encoding", encoding.encode()))
        headers.append((b"content-length", b"%d" % size))
        if response.timing:
            headers.append((b"server-timing", server_timing(response.timing, encode_ns).encode()))
        return Answer(200, headers, body)


async def _compressed(body: Sequence[bytes | memoryview], size: int, encoding: str) -> Sequence[bytes]:
    if size < _QUICK_BYTES:
        return compressed(body, encoding)
    return await asyncio.to_thread(compressed, body, encoding)
