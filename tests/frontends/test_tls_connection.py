"""One connection over TLS, from the socket: what its protocol sees, and what becomes of clients that do otherwise."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from certificates import Authority, Pair
from server_process import eventually

from ortolan.frontends.tls.certificates import Speaks, load_certificates
from ortolan.frontends.tls.identity import PeerIdentity, peer_identity
from ortolan.frontends.tls.server_tls import TlsPort
from ortolan.frontends.tls.tls_files import TlsFiles

SOON_S = 20.0
MIB = 1 << 20


class Door:
    """A port whose connections do what a test says; what they saw."""

    def __init__(self, server: asyncio.Server) -> None:
        self.port = server.sockets[0].getsockname()[1]
        self.made: asyncio.Queue[Recorder] = asyncio.Queue()
        self.problems: list[dict[str, object]] = []
        self.stays_open = False

    async def connection(self) -> "Recorder":
        return await asyncio.wait_for(self.made.get(), SOON_S)


class Recorder(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.heard = bytearray()
        self.came = asyncio.Event()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()
        self.paused = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._door.made.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.came.set()

    def eof_received(self) -> bool:
        self.ended.set()
        return self._door.stays_open

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost.set()

    async def until_heard(self, size: int) -> bytes:
        async with asyncio.timeout(SOON_S):
            while len(self.heard) < size:
                self.came.clear()
                await self.came.wait()
        return bytes(self.heard)


Open = Callable[..., None]
"""Runs a client of a port to its end: ``opened(client, handshake_s=..., files=...)``."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def opened(request: pytest.FixtureRequest, pair: Pair, caplog: pytest.LogCaptureFixture) -> Open:
    caplog.set_level(logging.DEBUG)

    async def served(client: Callable[[Door], Awaitable[None]], tls: TlsPort) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(tls.over(lambda: Recorder(door)), "127.0.0.1")
        door = Door(server)
        loop.set_exception_handler(lambda _, problem: door.problems.append(problem))
        try:
            await client(door)
            assert door.problems == []
        finally:
            server.close()

    def run(
        client: Callable[[Door], Awaitable[None]], handshake_s: float = SOON_S, files: TlsFiles | None = None
    ) -> None:
        used = load_certificates(files or TlsFiles(pair.certificate, pair.key), time.time())
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(served(client, TlsPort(lambda: used.contexts[Speaks.BOTH], handshake_s)))
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    return run


def trusting(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def connected(door: Door, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(SOON_S):
        return await asyncio.open_connection("127.0.0.1", door.port, ssl=context)


@contextmanager
def shaken(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Iterator[ssl.SSLSocket]:
    """A client of Python's own, which waits; it takes the end of a connection for one only if TLS says so."""
    with socket.create_connection(("127.0.0.1", port), SOON_S) as plain:
        tls = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False, session=session)
        with tls:
            yield tls


async def exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(size), SOON_S)


async def everything(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), SOON_S)


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ortolan"))


def test_both_sides_hear_all_that_the_other_says(opened: Open, authority: Authority) -> None:
    async def client(door: Door) -> None:
        reader, writer = await connected(door, trusting(authority))
        server = await door.connection()
        data = bytes(range(256)) * 16_384
        writer.write(data)
        assert await server.until_heard(len(data)) == data
        server.transport.writelines((b"head", memoryview(data), b""))
        server.transport.write(bytearray(b"tail"))
        assert await exactly(reader, len(data) + 8) == b"head" + data + b"tail"
        writer.close()
        await asyncio.wait_for(server.lost.wait(), SOON_S)
        assert server.ended.is_set()

    opened(client)


def test_a_protocol_with_memory_of_its_own_gets_no_byte_too_many(opened: Open, authority: Authority) -> None:
    class Into(asyncio.BufferedProtocol):
        def __init__(self, recorder: Recorder, size: int) -> None:
            self._recorder, self.memory, self._filled = recorder, bytearray(size), 0

        def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
            return memoryview(self.memory)[self._filled :]

        def buffer_updated(self, nbytes: int) -> None:
            self._filled += nbytes
            if self._filled == len(self.memory):
                self._recorder.transport.set_protocol(self._recorder)

    async def client(door: Door) -> None:
        _, writer = await connected(door, trusting(authority))
        server = await door.connection()
        data = bytes(range(256)) * 12_000
        into = Into(server, len(data))
        server.transport.set_protocol(into)
        writer.write(data + b"what follows")
        assert await server.until_heard(12) == b"what follows"
        assert into.memory == data
        writer.close()
        await asyncio.wait_for(server.lost.wait(), SOON_S)

    opened(client)


def test_what_waits_for_a_client_that_does_not_read_is_seen(opened: Open, authority: Authority) -> None:
    size = 32 * MIB
    may_read = threading.Event()

    def read(port: int) -> int:
        # uvloop's own client loses the last record of an answer that is ended like this.
        with shaken(port, trusting(authority)) as tls:
            assert may_read.wait(SOON_S)
            heard = 0
            while data := tls.recv(MIB):
                heard += len(data)
            return heard

    async def client(door: Door) -> None:
        reading = asyncio.create_task(asyncio.to_thread(read, door.port))
        server = await door.connection()
        server.transport.write(bytes(size))
        # What is not there is in the sockets.
        assert server.transport.get_write_buffer_size() > size // 2
        assert server.paused
        server.transport.close()
        may_read.set()
        assert await asyncio.wait_for(reading, SOON_S) == size
        await asyncio.wait_for(server.lost.wait(), SOON_S)

    opened(client)


def test_nothing_is_handed_on_while_reading_is_paused(opened: Open, authority: Authority) -> None:
    async def client(door: Door) -> None:
        _, writer = await connected(door, trusting(authority))
        server = await door.connection()
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        writer.write(bytes(MIB))
        writer.close()
        other_reader, other_writer = await connected(door, trusting(authority))
        other = await door.connection()
        other.transport.write(b"meanwhile")
        assert await exactly(other_reader, 9) == b"meanwhile"
        other_writer.close()
        assert not server.heard
        server.transport.resume_reading()
        assert len(await server.until_heard(MIB)) == MIB
        await asyncio.wait_for(server.lost.wait(), SOON_S)

    opened(client)


def test_the_end_can_be_said_while_the_client_still_sends(opened: Open, authority: Authority) -> None:
    """A client that is still sending has to get the answer that ends its connection."""

    async def client(door: Door) -> None:
        reader, writer = await connected(door, trusting(authority))
        server = await door.connection()
        writer.write(bytes(MIB))
        server.transport.write(b"enough")
        assert server.transport.can_write_eof()
        server.transport.write_eof()
        assert await everything(reader) == b"enough"
        assert not server.lost.is_set()
        with pytest.raises(RuntimeError):
            server.transport.write(b"more")
        writer.close()
        await asyncio.wait_for(server.lost.wait(), SOON_S)

    opened(client)


def test_a_client_that_ends_its_side_can_be_answered_still(opened: Open, authority: Authority) -> None:
    async def client(door: Door) -> None:
        # The event loops' own clients cannot end TLS in halves.
        def ask() -> bytes:
            with shaken(door.port, trusting(authority)) as tls:
                tls.sendall(b"asked")
                socket.socket.shutdown(tls, socket.SHUT_WR)
                return tls.recv(100) + tls.recv(100)

        door.stays_open = True
        asking = asyncio.create_task(asyncio.to_thread(ask))
        server = await door.connection()
        await asyncio.wait_for(server.ended.wait(), SOON_S)
        server.transport.write(b"answered")
        server.transport.close()
        assert await asyncio.wait_for(asking, SOON_S) == b"answered"

    opened(client)


# Who does otherwise


def test_a_request_in_the_clear_is_told_how_to_ask(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def client(door: Door) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await everything(reader)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"https://" in answer
        assert door.made.empty()
        writer.close()

    opened(client)
    assert "a TLS handshake with 127.0.0.1 failed: HTTP_REQUEST" in said(caplog)


@pytest.mark.parametrize(
    "garbage",
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\xff" * 20_000],
    ids=["HTTP/2 in the clear", "zeros", "no hello", "much"],
)
def test_what_is_no_tls_is_closed(opened: Open, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def client(door: Door) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(garbage)
        with suppress(ConnectionError):
            await everything(reader)
        assert door.made.empty()
        writer.close()

    opened(client)
    assert "a TLS handshake with 127.0.0.1 failed" in said(caplog)


@pytest.mark.parametrize("words", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "in the middle of its hello"])
def test_a_client_that_does_not_shake_hands_in_time_is_closed(
    opened: Open, words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def client(door: Door) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(words)
        with suppress(ConnectionError):
            assert await everything(reader) == b""
        writer.close()

    opened(client, handshake_s=0.2)
    assert "it took longer than 0.2 s" in said(caplog)


def test_a_client_that_vanishes_in_its_handshake_leaves_a_word(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def client(door: Door) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        writer.close()
        await asyncio.to_thread(eventually, lambda: "the client went" in said(caplog))

    opened(client)


def test_what_was_changed_on_its_way_closes_the_connection(
    opened: Open, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def client(door: Door) -> None:
        def spoil() -> bytes:
            with shaken(door.port, trusting(authority)) as tls:
                socket.socket.sendall(tls, b"\x17\x03\x03\x00\x20" + bytes(32))
                try:
                    return tls.recv(100)
                except (ssl.SSLError, ConnectionError):
                    return b"refused"

        spoiling = asyncio.create_task(asyncio.to_thread(spoil))
        server = await door.connection()
        await asyncio.wait_for(server.lost.wait(), SOON_S)
        assert await asyncio.wait_for(spoiling, SOON_S) == b"refused"
        assert not server.heard

    opened(client)
    assert "a TLS connection failed" in said(caplog)


# Clients' certificates


def test_a_client_is_known_by_its_certificate(opened: Open, authority: Authority, pair: Pair) -> None:
    async def client(door: Door) -> None:
        _, writer = await connected(door, trusting(authority, authority.client("worker")))
        server = await door.connection()
        assert peer_identity(server.transport) == PeerIdentity(("worker",))
        assert peer_identity(server.transport) is peer_identity(server.transport)
        writer.close()
        await asyncio.wait_for(server.lost.wait(), SOON_S)
        assert peer_identity(server.transport) == PeerIdentity(("worker",))

    opened(client, files=TlsFiles(pair.certificate, pair.key, authority.file))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (None, "certificate required|handshake failure"),
        ("stranger", "unknown ca"),
        ("server", "unsupported certificate"),
    ],
)
def test_a_client_is_told_why_its_certificate_does_not_do(
    opened: Open,
    directory: Path,
    authority: Authority,
    pair: Pair,
    caplog: pytest.LogCaptureFixture,
    version: ssl.TLSVersion,
    shown: str | None,
    told: str,
) -> None:
    own = {"stranger": Authority(directory, "strangers").client("stranger"), "server": pair}.get(shown or "")
    context = trusting(authority, own)
    context.maximum_version = version

    async def client(door: Door) -> None:
        def ask() -> None:
            with shaken(door.port, context) as tls:
                tls.recv(1)

        # With TLS 1.3 the client's side of the handshake is over before the server has looked.
        with pytest.raises(ssl.SSLError, match=f"(?i){told.replace(' ', '[ _]')}"):
            await asyncio.to_thread(ask)
        assert door.made.empty()

    opened(client, files=TlsFiles(pair.certificate, pair.key, authority.file))
    assert "a TLS handshake with 127.0.0.1 failed: " in said(caplog)


def test_where_certificates_are_optional_only_wrong_ones_are_refused(
    opened: Open, directory: Path, authority: Authority, pair: Pair
) -> None:
    async def client(door: Door) -> None:
        _, writer = await connected(door, trusting(authority))
        server = await door.connection()
        assert peer_identity(server.transport) is None
        writer.close()
        reader, writer = await connected(door, trusting(authority, Authority(directory, "others").client("other")))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await exactly(reader, 1)
        assert door.made.empty()

    opened(client, files=TlsFiles(pair.certificate, pair.key, authority.file, client_optional=True))


def test_a_resumed_session_knows_its_client_still(opened: Open, authority: Authority, pair: Pair) -> None:
    context = trusting(authority, authority.client("worker"))

    async def client(door: Door) -> None:
        def ask(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
            with shaken(door.port, context, session) as tls:
                assert tls.recv(1) == b"x"
                return tls.session, bool(tls.session_reused)

        session: ssl.SSLSession | None = None
        for is_resumed in (False, True):
            asking = asyncio.create_task(asyncio.to_thread(ask, session))
            server = await door.connection()
            assert peer_identity(server.transport) == PeerIdentity(("worker",))
            server.transport.write(b"x")
            session, resumed = await asyncio.wait_for(asking, SOON_S)
            assert resumed is is_resumed

    opened(client, files=TlsFiles(pair.certificate, pair.key, authority.file))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_before_1_2_are_refused(opened: Open, authority: Authority, version: ssl.TLSVersion) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = version, version

    async def client(door: Door) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connected(door, context)

    opened(client)
