"""Which protocol a connection speaks, however its first bytes are cut, and whose connection it is meanwhile."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from ortolan.frontends.one_port.first_words import FirstWords, Spoken, spoken
from ortolan.http2.frames import PREFACE, settings

REQUEST = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
MORE = settings({}) + b"more"


@pytest.mark.parametrize(
    ("heard", "decision"),
    [
        (PREFACE, Spoken.HTTP2),
        (PREFACE + MORE, Spoken.HTTP2),
        (REQUEST, Spoken.HTTP1),
        (b"G", Spoken.HTTP1),
        (b"P", None),  # or POST
        (b"PO", Spoken.HTTP1),
        (b"PR", None),  # or PROPFIND
        (b"PRI * HTTP/1.1\r\n", Spoken.HTTP1),
        (PREFACE.lower(), Spoken.HTTP1),
        (b"\r\n" + PREFACE, Spoken.HTTP1),
        (b"\x16\x03\x01", Spoken.HTTP1),  # TLS, which HTTP/1 refuses
        (b"", None),
    ],
)
def test_only_the_whole_preface_is_http2(heard: bytes, decision: Spoken | None) -> None:
    assert spoken(heard) is decision


@pytest.mark.parametrize("size", range(len(PREFACE)))
def test_the_first_byte_that_differs_decides(size: int) -> None:
    assert spoken(PREFACE[:size]) is None
    assert spoken(PREFACE[:size] + bytes([PREFACE[size] ^ 1])) is Spoken.HTTP1


class Spy(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self, name: str, told: list[Any]) -> None:
        self._name = name
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: ARG002
        self._told.append((self._name, "made"))

    def data_received(self, data: bytes) -> None:
        self._told.append((self._name, data))

    def shutdown(self) -> None:
        self._told.append((self._name, "shutdown"))


class Wire(asyncio.Transport):
    """A transport that carries nothing."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.closed = asyncio.Event()
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def hear(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def close(self) -> None:
        self.closed.set()


class Door:
    """A port on which both protocols are spies."""

    def __init__(self, opening_s: float = 60) -> None:
        self.told: list[Any] = []
        self.waiting: set[FirstWords] = set()
        self.state = ServerState()
        config = uvicorn.Config(lambda: None, log_config=None)
        self.words = FirstWords(self, lambda **_: Spy("HTTP/1", self.told), opening_s, config, self.state, {})
        self.wire = Wire(self.words)

    def undecided(self, connection: FirstWords) -> None:
        self.waiting.add(connection)

    def decided(self, connection: FirstWords) -> None:
        self.waiting.discard(connection)

    def new_http2(self) -> asyncio.Protocol:
        return Spy("HTTP/2", self.told)

    @property
    def heard(self) -> tuple[str, bytes]:
        """Who was given the connection, and all that it was given."""
        (name, first), *rest = self.told
        assert first == "made"
        assert {each for each, _ in rest} == {name}
        return name, b"".join(data for _, data in rest)


async def handed_over(pieces: list[bytes]) -> Door:
    door = Door()
    for piece in pieces:
        door.wire.hear(piece)
    return door


@pytest.mark.parametrize(("name", "begin"), [("HTTP/2", PREFACE + MORE), ("HTTP/1", REQUEST)])
@given(cuts=st.sets(st.integers(1, len(PREFACE + MORE) - 1)))
def test_however_it_is_cut_everything_comes_to_the_protocol_that_is_spoken(
    name: str, begin: bytes, cuts: set[int]
) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(begin)), len(begin)]
    pieces = [begin[start:end] for start, end in pairwise(places)]
    assert asyncio.run(handed_over(pieces)).heard == (name, begin)


@pytest.mark.parametrize("begin", [PREFACE + MORE, REQUEST, PREFACE[:-1] + b"X"])
async def test_one_byte_at_a_time_is_as_good(begin: bytes) -> None:
    door = await handed_over([bytes([byte]) for byte in begin])
    assert door.heard == ("HTTP/2" if begin.startswith(PREFACE) else "HTTP/1", begin)


async def test_uvicorn_and_the_port_know_a_connection_only_until_it_is_decided() -> None:
    door = Door()
    assert (door.state.connections, door.waiting) == ({door.words}, {door.words})
    door.wire.hear(PREFACE[:5])
    assert (door.state.connections, door.waiting) == ({door.words}, {door.words})
    door.wire.hear(PREFACE[5:])
    assert (door.state.connections, door.waiting) == (set(), set())
    assert isinstance(door.wire.protocol, Spy)


async def test_a_connection_that_is_lost_before_it_is_decided_is_nobodys() -> None:
    door = Door()
    door.words.connection_lost(None)
    assert (door.state.connections, door.waiting, door.told) == (set(), set(), [])


@pytest.mark.parametrize("said", [b"", PREFACE[:3]])
async def test_who_does_not_say_what_it_speaks_is_closed(said: bytes) -> None:
    door = Door(opening_s=0)
    door.wire.hear(said)
    async with asyncio.timeout(10):
        await door.wire.closed.wait()


async def test_while_the_server_stops_what_is_on_its_way_may_still_come() -> None:
    for words, name in ((PREFACE, "HTTP/2"), (REQUEST, "HTTP/1")):
        door = Door()
        door.words.shutdown()
        assert not door.wire.closed.is_set()
        door.wire.hear(words)
        told = [each for each in door.told if each[1] != "shutdown"]
        assert told == [(name, "made"), (name, words)]
        # The gRPC side learns it from its own server.
        assert (("HTTP/1", "shutdown") in door.told) == (name == "HTTP/1")


async def test_while_the_server_stops_a_silent_connection_is_closed_soon() -> None:
    door = Door()
    door.words.shutdown()
    async with asyncio.timeout(10):
        await door.wire.closed.wait()
