"""The one timer of a connection over HTTP/1: what is to come in time, and what is to leave."""

import asyncio
import math
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from ortolan.frontends.rest.http_limits import HttpLimits, Pace

# Progress of a client that reads is looked for so many times within its patience.
_LOOKS = 10


class Connection(Protocol):
    """Whose timer it is."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl

    @property
    def is_owed(self) -> bool:
        """Whether the client is to send the rest of something."""

    def late(self) -> None:
        """It did not come in time."""


class HttpClock:
    """Runs only while something is to come or to leave, and looks again when patience could end."""

    def __init__(self, connection: Connection, limits: HttpLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._loop = connection.loop
        self._transport = connection.transport
        self._coming: Pace | None = None
        self._leaving: Pace | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.came_bytes = 0
        """How much has come of what is to come now."""

    def expect_head(self) -> None:
        """A head is to come, or the rest of it."""
        self._expect(math.inf, self._limits.head_s)

    def expect_body(self) -> None:
        self._expect(self._limits.pace_bytes, self._limits.pace_s)

    def await_taking(self) -> None:
        """The client is to take what was written and has not left."""
        if self._leaving is None and (unsent_bytes := self._transport.get_write_buffer_size()):
            now_s = self._loop.time()
            self._leaving = Pace(1, self._limits.stalled_s, now_s, -unsent_bytes)
            self._look_by(now_s + self._limits.stalled_s / _LOOKS)

    def taken(self) -> None:
        self._leaving = None

    def stop(self) -> None:
        """Nothing is to come or to leave."""
        self._coming = self._leaving = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, least: float, within_s: float) -> None:
        now_s = self._loop.time()
        self.came_bytes = 0
        self._coming = Pace(least, within_s, now_s)
        self._look_by(now_s + within_s)

    def _look_by(self, due_s: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        due_s = min(self._coming_ends_s(now_s), self._leaving_ends_s(now_s))
        if due_s <= now_s:
            self._connection.late()
        elif due_s != math.inf:
            self._look_by(due_s)

    def _coming_ends_s(self, now_s: float) -> float:
        if self._coming is None or not self._connection.is_owed:
            return math.inf
        if self._connection.flow.read_paused:
            self._coming.rest(now_s, self.came_bytes)
        return self._coming.ends_s(now_s, self.came_bytes)

    def _leaving_ends_s(self, now_s: float) -> float:
        """When to look again at what is to leave; closes the connection if it does not."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if self._leaving is None or not unsent_bytes:
            self._leaving = None
            return math.inf
        if now_s >= (ends_s := self._leaving.ends_s(now_s, -unsent_bytes)):
            self._transport.abort()
            return math.inf
        return min(ends_s, now_s + self._limits.stalled_s / _LOOKS)
