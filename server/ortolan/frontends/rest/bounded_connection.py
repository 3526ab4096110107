"""One client's connection over HTTP/1 within bounds: uvicorn's, which leaves them to a proxy before it.

Bounded are a request's head, how many requests are parsed ahead of their turn, how long a client may take to send and
to read, and what is held for all of them meanwhile. What is no HTTP is answered in its turn, and no request becomes
another protocol: its body is never taken for the next request.

This leans on names inside uvicorn; ``tests/frontends/test_uvicorn_contract.py`` says which.
"""

import asyncio
from functools import partial
from typing import Any, NoReturn, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from ortolan.errors import NoRoom
from ortolan.frontends.held_bytes import UNCOUNTED_BYTES
from ortolan.frontends.rest.answer import Answer, error_answer, message_answer
from ortolan.frontends.rest.hosts import MISDIRECTED
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_clock import HttpClock
from ortolan.frontends.rest.http_limits import head_fault
from ortolan.frontends.rest.turn_taking import BODY, HEAD, NOTHING, TurnTaking

# What is parsed at once: the parser cannot be stopped, and every request in it would have to be remembered.
_PIECE_BYTES = 4096
# uvicorn's words, which clients may know.
_NO_HTTP = "Invalid HTTP request received"
_REASONS = {"Pause on PRI/Upgrade": "HTTP/2 is not spoken on this port"}
_LONG_TARGET = "the request's target is too long; a request's line and headers may have {} bytes"
_NO_TUNNEL = "CONNECT is not supported"
_LATE = "the request did not come within its time; send it faster, or in smaller parts"
_NO_ROOM = "the server holds too many bytes of requests that are not whole and answers that are not taken; try again"


class _Fault(Exception):
    """Ends the parsing of a request whose head is refused."""


class BoundedConnection(TurnTaking):
    """Bytes of a socket ⇄ requests and answers. Lives on the event loop."""

    def __init__(
        self,
        bounds: HttpBounds,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._fault: Answer | None = None
        self._expected = True
        self._headlike_bytes = 0
        self._body_came = False

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._clock = HttpClock(self, self._bounds.limits)
        self._clock.expect_head()

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE_BYTES:
            self._parse(data)
            if self._part is not NOTHING:
                self._heard(len(data), len(data))
        else:
            self._unparsed = memoryview(data)
            self._parse_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._clock.await_taking()
        self._tell()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._clock.taken()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.held.tell(self, 0)
        super().connection_lost(exc)

    # What the parser tells

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._part = HEAD
        self._expected = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part is BODY:
            # Behind a body in chunks: no header of the request (RFC 9110, section 6.5.1).
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            self._refuse_tunnel()
            return
        version = parser.get_http_version()
        if (fault := head_fault(self.headers, version)) is not None:
            self._refuse_head(*fault)
        if not self._bounds.hosts.allows(self.url, self.headers):
            self._refuse_head(MISDIRECTED, self._bounds.hosts.refusal(self.headers))
        if version == "1.0":
            # Its clients know no answer before the answer.
            self.expect_100_continue = False
        self._begin_request(version)
        self._part = BODY
        self._expected = False

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._message_came()
        super().on_message_complete()

    # What a cycle and a large body tell

    @property
    def _linger_s(self) -> float:
        return self._bounds.limits.linger_s

    def _told_status(self, status: int) -> None:
        self._bounds.errors.told_status(status)

    def heard(self, size: int) -> None:
        """So many more bytes of a large body came."""
        self._heard(size, 0)

    def late(self) -> None:
        """It did not come in time."""
        if cast("object", self.headers) is not None:
            self._refuse(message_answer(408, _LATE))
        else:
            self.transport.close()

    def let_go(self) -> int:
        """End the request that is not whole, or the answer that is not taken (``held_bytes.Holder``)."""
        self._told_bytes = 0
        if self._part is BODY and self._body_bytes() > self.transport.get_write_buffer_size():
            self._refuse(error_answer(NoRoom(_NO_ROOM)))
        else:
            self.transport.abort()
        return 0

    # For those who know more of a request

    def _begin_request(self, version: str) -> None:  # noqa: ARG002
        """The head is there: begin, or wait behind the request before."""
        url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
        # It makes the scope, which not every request needs.
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects_continue
        self.headers += headers
        is_first = self._is_idle()
        super().on_headers_complete()
        if is_first:
            self._turn = self.cycle

    def _body_to_come(self) -> int:
        """How many bytes are the body's for certain."""
        return 0

    def _is_body_held(self) -> bool:
        """Whether what came of the body is kept until it is whole."""
        return not self.cycle.response_complete

    def _message_came(self) -> None:
        self._part = NOTHING
        if self._told_bytes:
            self._tell()

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    # Parsing

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._begin_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if self._last_words is None:
                self._refuse(self._fault or self._no_http(error))

    def _parse_on(self) -> None:
        """Parse what came, until a request is to wait for its turn."""
        came_bytes = 0
        while self._unparsed and not self.pipeline:
            size = max(_PIECE_BYTES, self._body_to_come())
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._body_came = False
            self._parse(piece)
            came_bytes += len(piece)
            if self._part is NOTHING:
                came_bytes = 0
            elif not (self._body_came and self._unparsed):
                # Until then it may be whole with what is there.
                self._heard(came_bytes, len(piece))
                came_bytes = 0
        if self._unparsed:
            self.flow.pause_reading()

    def _begin_without_upgrade(self, rest: bytes | memoryview) -> None:
        """Parse a request again as one that does not offer another protocol, which servers may ignore.

        RFC 9110, section 7.8. The parser would leave out its body, and take that for the next request.
        """
        parser = self.parser
        head = [parser.get_method(), b" ", self.url, b" HTTP/", parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self._new_parser()
        self._parse(b"".join((*head, b"\r\n")))
        if rest:
            self._parse(rest)

    def _refuse_tunnel(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            self._refuse_head(501, _NO_TUNNEL)

    def _refuse_head(self, status: int, message: str) -> NoReturn:
        self._fault = message_answer(status, message)
        raise _Fault

    def _no_http(self, error: httptools.HttpParserError) -> Answer:
        """What the parser says is one of its own texts, with nothing of what was sent."""
        reason = _REASONS.get(str(error), str(error))
        self._bounds.faults.tell(self.transport.get_extra_info("peername"), reason)
        return message_answer(400, f"{_NO_HTTP}: {reason}")

    # What is not whole, and what is held

    def _heard(self, size: int, last_size: int) -> None:
        """``size`` bytes came, the last ``last_size`` of them at once, and a request that has begun is not whole."""
        if not self._expected:
            self._expected = True
            self._headlike_bytes = 0
            if self._part is HEAD:
                self._clock.expect_head()
            else:
                self._clock.expect_body()
        self._clock.came_bytes += size
        self._count_head(last_size)
        self._tell()
        if self._part is BODY and self._is_unwanted():
            self._end_unread()

    def _count_head(self, size: int) -> None:
        """Count what is no body: also what is around its chunks, and behind them."""
        self._headlike_bytes = 0 if self._body_came else self._headlike_bytes + size
        self._body_came = False
        most = self._bounds.limits.head_bytes
        if self._headlike_bytes <= most:
            return
        if self._part is HEAD and len(self.url) > most // 2:
            self._refuse(message_answer(414, _LONG_TARGET.format(most)))
        else:
            self._refuse(message_answer(431, f"the request's header fields are too large; {most} bytes are allowed"))

    def _is_unwanted(self) -> bool:
        """Whether there is more of a body than is worth reading after it was answered."""
        if self._turn is not self.cycle or not self.cycle.response_complete:
            return False
        declared = next((value for name, value in self.headers if name == b"content-length"), b"0")
        return max(int(declared), self._clock.came_bytes) > self._bounds.limits.unwanted_bytes

    def _body_bytes(self) -> int:
        is_held = self._part is BODY and self._expected and self._is_body_held()
        return self._clock.came_bytes if is_held else 0

    def _tell(self) -> None:
        """How many bytes wait here for the client, where they are worth counting."""
        held_bytes = self._body_bytes() + self.transport.get_write_buffer_size()
        if held_bytes <= UNCOUNTED_BYTES:
            held_bytes = 0
        if held_bytes != self._told_bytes:
            self._told_bytes = held_bytes
            self._bounds.held.tell(self, held_bytes)


def bounded_protocol(bounds: HttpBounds) -> type[asyncio.Protocol]:
    """What uvicorn takes for the class of its connections."""
    return cast("type[asyncio.Protocol]", partial(BoundedConnection, bounds))
