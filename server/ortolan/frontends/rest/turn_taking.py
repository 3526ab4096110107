"""The turns of the requests on one connection over HTTP/1: which one is answered, what waits, and how all of it ends.

This leans on names inside uvicorn; ``tests/frontends/test_uvicorn_contract.py`` says which.
"""

import asyncio
import enum
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ortolan.frontends.rest.answer import Answer, head_bytes
from ortolan.frontends.rest.http_bounds import TurnsFlow
from ortolan.frontends.rest.http_clock import HttpClock
from ortolan.frontends.rest.last_words import LastWords

_NO_BYTES = memoryview(b"")
# While the server stops, so long a connection is looked at for a request that is on its way.
_LAST_REQUEST_S = 0.5


class Part(enum.Enum):
    """What a client is within."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


# To ask the class each time costs more.
NOTHING, HEAD, BODY = Part.NOTHING, Part.HEAD, Part.BODY


class TurnTaking(HttpToolsProtocol):
    """Requests in their turns. Lives on the event loop."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # A new connection is to send a head.
        self._part = HEAD
        self._turn: RequestResponseCycle | None = None
        self._unparsed = _NO_BYTES
        self._last_words: bytes | None = None
        self._told_bytes = 0
        self._rested_s = 0.0
        self._stopping = False
        self._clock: HttpClock

    @property
    def _linger_s(self) -> float:
        """How long a client may take to hear the last words."""
        raise NotImplementedError

    def _parse_on(self) -> None:
        """Parse what came, until a request is to wait for its turn."""
        raise NotImplementedError

    def _tell(self) -> None:
        """How many bytes wait here for the client, where they are worth counting."""
        raise NotImplementedError

    def _told_status(self, status: int) -> None:
        """A refusal with this status takes the place of an answer."""
        raise NotImplementedError

    def _noted_refusal(self, answer: Answer) -> Answer:
        """A refusal as it is sent, noted where somebody wants to know of it."""
        return answer

    def _is_unwanted(self) -> bool:
        """Whether there is more of a body than is worth reading after it was answered."""
        raise NotImplementedError

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = TurnsFlow(transport, self._may_read)

    def connection_lost(self, exc: Exception | None) -> None:
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        self._stop()
        self._unset_keepalive_if_required()
        if self._turn is not None and not self._turn.response_complete:
            waiting.append(self._turn)
        for cycle in waiting:
            self._leave(cycle)
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        left_s = self._rested_s + self.timeout_keep_alive - self.loop.time()
        silent = self._stopping and cast("object", self.headers) is None
        if (self._part is not NOTHING and not silent) or not self._is_idle():
            self._look_again(self.timeout_keep_alive)
        elif left_s > 0:
            self._look_again(left_s)
        else:
            super().timeout_keep_alive_handler()
            self._clock.await_taking()

    # What uvicorn tells

    def shutdown(self) -> None:
        """The server stops: finish what has begun, and what begins within moments. To be told again is nothing new."""
        if self._stopping:
            return
        self._stopping = True
        # Uvicorn says that these are whole seconds; its loop takes any.
        self.timeout_keep_alive = _LAST_REQUEST_S  # type: ignore[assignment]
        self._unset_keepalive_if_required()
        if not self._is_idle():
            self.cycle.keep_alive = False
        self._rested_s = self.loop.time()
        self._look_again(_LAST_REQUEST_S)

    # What a cycle tells

    def on_response_complete(self) -> None:
        if self.pipeline or self._last_words is not None or self._told_bytes or self.transport.is_closing():
            self._take_turns()
        elif self._part is BODY and self._is_unwanted():
            self._end_unread()
        else:
            self.server_state.total_requests += 1
            self._rest()

    @property
    def is_owed(self) -> bool:
        """Whether the client is to send the rest of something."""
        return self._part is not NOTHING

    # For those who parse

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Nobody waits for the answer of ``cycle``."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _is_within(self) -> bool:
        """Whether something has begun to come and not ended, or the connection is about to end."""
        return self._part is not NOTHING or bool(self._unparsed) or self._last_words is not None

    def _is_idle(self) -> bool:
        """Whether a request that comes now needs not wait."""
        return self.cycle is None or self.cycle.response_complete

    # Turns

    def _rest(self) -> None:
        """Nothing is asked any more. The timer that ends a long rest is not set anew for each of them."""
        self._rested_s = self.loop.time()
        if self._part is NOTHING:
            # An idle connection is to keep nothing of its last request.
            self.cycle = self.scope = self._turn = None  # type: ignore[assignment]
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def _may_read(self) -> bool:
        return not (self.pipeline or self._unparsed or self._last_words is not None)

    def _take_turns(self) -> None:
        """An answer was sent: begin what comes next."""
        if self._told_bytes:
            self._tell()
        if self.transport.is_closing():
            self._clock.await_taking()
        if self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            self._turn, app = self.pipeline.pop()
            self._start_asgi_task(self._turn, app)
            if not self.pipeline:
                self._parse_on()
                self.flow.resume_reading()
        elif self._last_words is not None:
            self._end()
        elif self._part is BODY and self._is_unwanted():
            self._end_unread()
        else:
            self._rested_s = self.loop.time()
            super().on_response_complete()

    def _refuse(self, answer: Answer) -> None:
        """Read nothing more: ``answer`` takes the place of that to what is being sent, and is the last."""
        if self._last_words is not None or self.transport.is_closing():
            return
        answer = self._noted_refusal(answer)
        head = head_bytes(answer, self.server_state.default_headers, keep_alive=False)
        self._last_words = b"".join((head, *answer.body))
        self._unparsed = _NO_BYTES
        if self._part is BODY:
            self._give_up(self.cycle)
        self._part = NOTHING
        self._tell()
        if self._last_words:
            self._told_status(answer.status)
        if self._turn is None or self._turn.response_complete:
            self._end()
        else:
            self.flow.pause_reading()

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """The rest of its body does not come."""
        if cycle is self._turn:
            if cycle.response_started:
                # Its client has the answer, or would take another for a part of it.
                self._last_words = b""
            self._turn = None
        else:
            self.pipeline.popleft()
        if not cycle.response_complete:
            self._leave(cycle)

    def _end_unread(self) -> None:
        """The answer was sent, and the rest of its request is not worth reading."""
        self._last_words = b""
        self._end()

    def _end(self) -> None:
        """Say the last words; whoever listens to the transport from now on tells when it is closed."""
        if not self.transport.is_closing():
            self._stop()
            self._unset_keepalive_if_required()
            self.flow.read_paused = False
            LastWords(self, self._last_words or b"", self._linger_s)
            self.transport.resume_reading()

    def _stop(self) -> None:
        self._part = NOTHING
        self._unparsed = _NO_BYTES
        self._clock.stop()
