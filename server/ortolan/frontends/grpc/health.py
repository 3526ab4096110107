"""``grpc.health.v1.Health``: the server's readiness in the words that balancers and Kubernetes know."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ortolan.core.inference_core import InferenceCore
from ortolan.errors import NotFound
from ortolan.frontends.grpc.call import Call
from ortolan.protocol import protobuf_messages as messages

_SERVICES = ("", messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE)
_WATCH_INTERVAL_S = 0.5


class HealthService:
    """SERVING exactly when the server is ready: computed when asked, so that it cannot be stale."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core
        self._stopping = asyncio.Event()

    async def check(self, data: bytes, call: Call) -> bytes:  # noqa: ARG002
        """The status of one service. Raises NotFound for a service that this server does not have."""
        request = messages.parse(messages.HealthCheckRequest, data)
        if request.service not in _SERVICES:
            raise NotFound(f"unknown service '{request.service[:64]}'; ask for '' or '{messages.INFERENCE_SERVICE}'")
        return self._answer(self._status())

    async def watch(self, data: bytes) -> AsyncIterator[bytes]:
        """The status now, and again whenever it changes, until the server stops."""
        request = messages.parse(messages.HealthCheckRequest, data)
        known = request.service in _SERVICES
        told = None
        while True:
            status = self._status() if known else messages.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                told = status
                yield self._answer(status)
            if self._stopping.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _WATCH_INTERVAL_S)

    def end_watches(self) -> None:
        """End the streams of all watchers, which would otherwise hold the stopping server up for its whole grace."""
        self._stopping.set()

    def _status(self) -> int:
        kinds = messages.HealthCheckResponse
        return int(kinds.SERVING if self._core.is_ready() else kinds.NOT_SERVING)

    def _answer(self, status: int) -> bytes:
        return bytes(messages.HealthCheckResponse(status=status).SerializeToString())
