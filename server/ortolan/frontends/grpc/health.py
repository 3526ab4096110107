"""``grpc.health.v1.Health``: the server's readiness in the words that balancers and Kubernetes know."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import InvalidArgument, NotFound
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.status_watch import StatusWatch
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import Raw

_SERVICES = ("", messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE)
_WATCH_INTERVAL_S = 0.5


class HealthService:
    """SERVING exactly when the server is ready: computed when asked, and for all watchers at once."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core
        self._watch = StatusWatch(self._status, _WATCH_INTERVAL_S)

    async def check(self, data: Raw, call: Call) -> bytes:  # noqa: ARG002
        """The status of one service. Raises NotFound for a service that this server does not have."""
        request = messages.parse(messages.HealthCheckRequest, data)
        if request.service not in _SERVICES:
            raise NotFound(f"unknown service '{request.service[:64]}'; ask for '' or '{messages.INFERENCE_SERVICE}'")
        return self._answer(await self._status())

    async def watch(self, requests: AsyncIterator[Raw], call: Call) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        """The status now, and again whenever it changes, until the server stops."""
        data = await anext(requests, None)
        if data is None:
            raise InvalidArgument("the call ended without a request; send one HealthCheckRequest")
        request = messages.parse(messages.HealthCheckRequest, data)
        if request.service not in _SERVICES:
            yield self._answer(messages.HealthCheckResponse.SERVICE_UNKNOWN)
            await self._watch.ended()
            return
        async with contextlib.aclosing(self._watch.statuses()) as statuses:
            async for status in statuses:
                yield self._answer(status)

    def end_watches(self) -> None:
        """End the streams of all watchers, which would otherwise hold the stopping server up for its whole grace."""
        self._watch.end()

    async def _status(self) -> int:
        kinds = messages.HealthCheckResponse
        return int(kinds.SERVING if await self._core.whole.is_ready() else kinds.NOT_SERVING)

    def _answer(self, status: int) -> bytes:
        return bytes(messages.HealthCheckResponse(status=status).SerializeToString())
