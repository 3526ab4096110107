"""What the connections of one HTTP port share, and when they are read from."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from uvicorn.protocols.http.flow_control import FlowControl

from ortolan.core.error_responses import ErrorResponses
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.rest.fault_log import FaultLog
from ortolan.frontends.rest.hosts import ANY_HOST, AllowedHosts
from ortolan.frontends.rest.http_limits import HttpLimits

# Of a port whose requests have no bodies that matter.
_MOST_HELD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """What a client may send and to whom, and what all of them may have waiting here."""

    limits: HttpLimits = field(default_factory=HttpLimits)
    held: HeldBytes = field(default_factory=lambda: HeldBytes(_MOST_HELD_BYTES))
    hosts: AllowedHosts = ANY_HOST
    faults: FaultLog = field(default_factory=FaultLog)
    errors: ErrorResponses = field(default_factory=ErrorResponses)


class TurnsFlow(FlowControl):
    """Whoever asks, nothing is read while requests wait for their turn."""

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        if self.read_paused and self._may_read():
            super().resume_reading()
