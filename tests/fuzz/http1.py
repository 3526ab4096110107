"""What is fuzzed of HTTP/1: what a connection takes for requests, and what it answers, however its bytes are cut.

The first byte says how the rest is cut. Each request gets one answer, in its turn; a refusal is the last one; no byte
of a body is taken for a request. h11, which shares no code with our parser, has a second opinion on the requests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import h11
from fuzz.line import Line, Lines, Reply, replies
from uvicorn.config import Config
from uvicorn.server import ServerState

from ortolan.errors import InvalidArgument
from ortolan.frontends.held_bytes import HeldBytes
from ortolan.frontends.rest.bounded_connection import BoundedConnection
from ortolan.frontends.rest.http_bounds import HttpBounds
from ortolan.frontends.rest.http_limits import HttpLimits

PIECES = (1 << 20, 1, 7, 100, 4096, 4097)
REFUSALS = {*range(400, 500), 501, 505}
_OURS = b"x-ours"
_FRAMING = ("host", "content-length", "transfer-encoding")


@dataclass
class Asked:
    """A request as the application saw it; ``body`` is None where it did not come whole."""

    method: bytes
    target: bytes
    version: str
    body: bytes | None = None


@dataclass
class Heard:
    """What became of a client's bytes."""

    asked: list[Asked]
    answers: list[Reply]
    is_over: bool
    """Whether the server ended the connection."""


@dataclass
class _Application:
    """Answers with what it was sent; where the path begins with /early, before it has read that."""

    asked: list[Asked] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        asked = Asked(scope["method"].encode(), scope["raw_path"] + query, scope["http_version"])
        self.asked.append(asked)
        if asked.target.startswith(b"/early"):
            await _answer(send, b"early")
        else:
            asked.body = await _body(receive)
            if asked.body is not None:
                await _answer(send, b"%d" % len(asked.body))


async def _body(receive: Any) -> bytes | None:
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event["body"]
        if not event["more_body"]:
            return body


async def _answer(send: Any, body: bytes) -> None:
    headers = [(_OURS, b"1"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes that a client sends, cut as the first byte says."""
    size = PIECES[data[0] % len(PIECES)] if data else 1
    return (data[at : at + size] for at in range(1, len(data), size))


def read(data: bytes) -> Heard:
    """Raises InvalidArgument where the connection refused something."""
    heard = listen(data)
    _check(heard)
    if any(_OURS not in answer.headers for answer in heard.answers):
        _check_opinion(heard, data[1:])
        raise InvalidArgument(str(heard.answers[-1].status))
    return heard


def verify(heard: Heard, data: bytes) -> None:
    whole = listen(b"\0" + data[1:])
    # Who answers before the body is there may do so before it is seen to be broken, or after.
    if not any(asked.target.startswith(b"/early") for asked in (*whole.asked, *heard.asked)):
        assert whole.asked == heard.asked
        assert [answer.status for answer in whole.answers] == [answer.status for answer in heard.answers]
    _check_opinion(heard, data[1:])


def listen(data: bytes) -> Heard:
    application = _Application()
    bounds = HttpBounds(HttpLimits(), HeldBytes(1 << 30))
    config = Config(application, http=BoundedConnection, ws="none", lifespan="off", access_log=False, log_config=None)
    state = ServerState()
    line = lines().exchange(lambda loop: BoundedConnection(bounds, config, state, {}, loop), pieces(data))
    assert not state.tasks
    assert not state.connections
    return heard_of(line, application.asked)


def heard_of(line: Line, asked: list[Asked]) -> Heard:
    return Heard(asked, replies(bytes(line.sent), [each.method for each in asked]), line.ended)


def _check(heard: Heard) -> None:
    """One answer for each request, and at most one refusal, which is the last and ends the connection."""
    ours = [answer for answer in heard.answers if _OURS in answer.headers]
    refusals = heard.answers[len(ours) :]
    assert all(_OURS not in answer.headers for answer in refusals)
    assert len(refusals) <= 1
    assert len(ours) <= len(heard.asked)
    for asked in heard.asked[: len(ours)]:
        assert asked.body is not None or asked.target.startswith(b"/early")
    for refusal in refusals:
        assert refusal.status in REFUSALS, refusal
        assert refusal.headers[b"connection"] == b"close"
        assert heard.is_over


def _check_opinion(heard: Heard, data: bytes) -> None:
    """Where h11 finds a request, it is the one that we found, or we refused it."""
    for ours, theirs in zip(heard.asked, _second_opinion(data), strict=False):
        assert (ours.method, _path(ours.target)) == (theirs.method, _path(theirs.target)), (ours, theirs)
        assert ours.body is None or ours.body == theirs.body, (ours, theirs)


def _path(target: bytes) -> bytes:
    """Without what follows it; a whole address is left out, of which only we take the path."""
    return re.split(b"[?#]", target)[0] if target.startswith(b"/") else b""


def _second_opinion(data: bytes) -> Iterator[Asked]:
    """Requests, until one is not whole, or is one of those that h11 is known to take otherwise."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        while isinstance(request := connection.next_event(), h11.Request) and _is_agreed(request):
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                return
            yield Asked(request.method, request.target, request.http_version.decode(), body)
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
    except h11.ProtocolError:
        return


def _is_agreed(request: h11.Request) -> bool:
    """Both lengths at once h11 takes for chunks, and we refuse; of a tunnel it reads no body."""
    names = [bytes(name).decode() for name, _ in request.headers]
    return request.method != b"CONNECT" and sum(name in _FRAMING[1:] for name in names) <= 1


@cache
def lines() -> Lines:
    return Lines()


# What to begin with, and how to alter it

_GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
_POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
_EARLY = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(_GET) + _GET
_CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Behind: y\r\n\r\n"
)
_EXPECTING = b"POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
_UPGRADE = b"GET /u HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
_HEAD = b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n"
_OLD = b"POST /o HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1"
_LAST = b"GET /l HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_WHOLE = (_GET, _POST, _EARLY, _CHUNKED, _EXPECTING, _UPGRADE, _HEAD, _OLD)
_LINES = (
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 0x5",
    b"Content-Length: 18446744073709551617", b"Content-Length : 5", b"Transfer-Encoding: chunked", b"Content-Length:",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding:\x0bchunked", b"Host: y", b"Host:", b"Connection: close", b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: banana", b" folded: line", b"X: a\rb", b"X: a\0b", b"",
    b"X: " + b"y" * 300, b"\x80: z", b"Transfer-Encoding: Chunked", b"HTTP2-Settings: AAAA", b"5", b"0",
    b"ffffffffffffffff1", b"-1", b"5;\n", b"GET /smuggled HTTP/1.1", b"POST /p HTTP/1.0", b"PRI * HTTP/2.0",
    b"CONNECT x:1 HTTP/1.1", b"GET /",
)  # fmt: skip


def exchanges() -> Iterator[bytes]:
    """Requests of every kind, alone and sent ahead of each other, for each way to cut them."""
    for cut in range(len(PIECES)):
        for one in (*_WHOLE, _LAST):
            yield bytes([cut]) + one
        yield bytes([cut]) + b"".join(_WHOLE) + _LAST + _GET
        yield bytes([cut]) + _CHUNKED * 3 + _GET[:-2]


def altered(data: bytes, random: Random) -> bytes | None:
    """The lines with one to three of them altered, left out, twice, or in another order."""
    found = data[1:].split(b"\r\n")
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(found))
        match random.randrange(6):
            case 0:
                found.insert(at, random.choice(_LINES))
            case 1:
                found[at] = random.choice(_LINES)
            case 2 if len(found) > 1:
                found.pop(at)
            case 3:
                found.insert(at, random.choice(found))
            case 4:
                found[at] += random.choice((b" ", b"\t", b"\n", b"\r", b"\0", b",", b"1"))
            case _:
                found = [*found[:-1], *random.choice(_WHOLE).split(b"\r\n")]
    return data[:1] + b"\r\n".join(found)
