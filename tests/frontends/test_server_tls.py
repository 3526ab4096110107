"""Certificates that change while the server runs: who is let in, and by what, from then on."""

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from certificates import Authority, Pair
from frontends import grpc_peers
from server_process import eventually

from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.tls.certificates import Speaks
from ortolan.frontends.tls.server_tls import ServerTls
from ortolan.frontends.tls.tls_files import TlsFiles

SOON_S = 20.0
LOOK_S = 0.02
DAY_S = 86_400.0


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


@asynccontextmanager
async def following(tls: ServerTls) -> AsyncIterator[None]:
    task = asyncio.create_task(tls.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def echoing(tls: ServerTls) -> AsyncIterator[int]:
    """The number of a port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(tls.port(Speaks.HTTP).over(Echo), "127.0.0.1")
    async with following(tls):
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


class Client:
    """A connection that shows what the server showed it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @property
    def server_name(self) -> str:
        subject = self.writer.get_extra_info("peercert")["subject"]
        return str(dict(part[0] for part in subject)["commonName"])

    async def echo(self, data: bytes = b"hello") -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self._reader.readexactly(len(data)), SOON_S)


async def connect(port: int, trusted: Authority, own: Pair | None = None) -> Client:
    context = ssl.create_default_context(cafile=trusted.file)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return Client(*await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, ssl=context), SOON_S))


async def server_name(port: int, trusted: Authority) -> str:
    client = await connect(port, trusted)
    client.writer.close()
    return client.server_name


async def is_let_in(port: int, trusted: Authority, own: Pair) -> bool:
    try:
        client = await connect(port, trusted, own)
        await client.echo()
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return False
    client.writer.close()
    return True


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(pair.certificate, pair.key, client_ca)


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


async def test_new_connections_get_the_new_certificate_and_old_ones_live_on(authority: Authority) -> None:
    pair = authority.server("first")
    tls = ServerTls(files(pair), LOOK_S)
    async with echoing(tls) as port:
        old = await connect(port, authority)
        assert old.server_name == "first"
        before = tls.contents
        pair.replace_by(authority.server("second"))
        await until(lambda: tls.contents is not before)
        assert await server_name(port, authority) == "second"
        assert await old.echo(b"still here") == b"still here"
        old.writer.close()


async def test_links_that_are_swapped_are_followed(authority: Authority, tmp_path: Path) -> None:
    """As Kubernetes changes a secret that is mounted."""
    for name in ("first", "second"):
        directory = tmp_path / f"..{name}"
        directory.mkdir()
        pair = authority.server(name)
        os.replace(pair.certificate, directory / "tls.crt")
        os.replace(pair.key, directory / "tls.key")
    data = tmp_path / "..data"
    data.symlink_to("..first")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    tls = ServerTls(TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key"), LOOK_S)
    async with echoing(tls) as port:
        before = tls.contents
        (tmp_path / "..data_tmp").symlink_to("..second")
        os.replace(tmp_path / "..data_tmp", data)
        await until(lambda: tls.contents is not before)
        assert await server_name(port, authority) == "second"


async def test_clients_of_an_authority_that_is_replaced_are_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.pem)
    ours, theirs = authority.client("ours"), other.client("theirs")
    tls = ServerTls(files(authority.server(), trusted), LOOK_S)
    async with echoing(tls) as port:
        old = await connect(port, authority, ours)
        await old.echo()
        assert not await is_let_in(port, authority, theirs)
        for content, let_in in ((authority.pem + other.pem, (True, True)), (other.pem, (False, True))):
            before = tls.contents
            trusted.write_bytes(content)
            await until(lambda seen=before: tls.contents is not seen)  # type: ignore[misc]
            assert (await is_let_in(port, authority, ours), await is_let_in(port, authority, theirs)) == let_in
        assert await old.echo(b"connected before") == b"connected before"
        old.writer.close()


async def test_a_session_ends_with_the_authority_by_which_it_began(authority: Authority, tmp_path: Path) -> None:
    """A session that is resumed shows no certificate again."""
    other = Authority(tmp_path, "other")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.pem)
    ours = authority.client("ours")
    context = ssl.create_default_context(cafile=authority.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(ours.certificate, ours.key)
    tls = ServerTls(files(authority.server(), trusted), LOOK_S)

    def ask(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        with (
            socket.create_connection(("127.0.0.1", port), SOON_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as asked,
        ):
            asked.sendall(b"x")
            assert asked.recv(1) == b"x"
            return asked.session, bool(asked.session_reused)

    async with echoing(tls) as port:
        session, _ = await asyncio.to_thread(ask, port, None)
        assert (await asyncio.to_thread(ask, port, session))[1]
        before = tls.contents
        trusted.write_bytes(other.pem)
        await until(lambda: tls.contents is not before)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(ask, port, session)


async def test_a_wrong_pair_leaves_the_old_one_in_use_and_is_told_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pair = authority.server("first")
    good = pair.key_pem
    tls = ServerTls(files(pair), LOOK_S)
    async with echoing(tls) as port:
        pair.key.write_bytes(authority.server("other").key_pem)
        await until(lambda: lines(caplog, logging.ERROR))
        assert await server_name(port, authority) == "first"
        pair.key.unlink()
        await until(lambda: len(lines(caplog, logging.ERROR)) > 1)
        assert await server_name(port, authority) == "first"
        pair.key.write_bytes(good)
        pair.replace_by(authority.server("second"))
        await until(lambda: lines(caplog, logging.INFO)[-1].startswith("--tls-certificate and what belongs to it"))
        assert await server_name(port, authority) == "second"
    mismatch, missing = lines(caplog, logging.ERROR)
    assert "what is in use stays in use: --tls-key: the key in" in mismatch
    assert "No such file" in missing


async def test_the_end_of_a_certificate_is_told_once_and_again_when_it_is_over(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [time.time()]
    pair = authority.server("short", to_days=20)
    tls = ServerTls(files(pair), LOOK_S, lambda: now_s[0])
    async with following(tls):
        now_s[0] += 10 * DAY_S
        await until(lambda: lines(caplog, logging.WARNING))
        now_s[0] += 11 * DAY_S
        await until(lambda: lines(caplog, logging.ERROR))
    soon, over = lines(caplog, logging.WARNING)
    assert "--tls-certificate: the file expires in 9 days" in soon
    assert "others refuse it; renew it" in over


def test_a_certificate_that_ends_soon_is_told_at_the_start(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    ServerTls(files(authority.server(to_days=3)))
    assert "expires in 2 days" in lines(caplog, logging.WARNING)[0]


@pytest.mark.parametrize("transport", [Http2Server, GrpcioServer])
async def test_calls_over_grpc_follow_certificates_and_authorities(
    authority: Authority, tmp_path: Path, transport: type[Http2Server] | type[GrpcioServer]
) -> None:
    other = Authority(tmp_path, "other")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.pem)
    pair = authority.server("first")
    ours, theirs = authority.client("ours"), other.client("theirs")
    tls = ServerTls(files(pair, trusted), LOOK_S)
    served = grpc_peers.Served()
    options = GrpcOptions(max_message_bytes=1 << 20)
    methods = served.methods(options)
    if transport is Http2Server:
        server: Http2Server | GrpcioServer = Http2Server(methods, "127.0.0.1", 0, options, tls.port(Speaks.GRPC))
    else:
        server = GrpcioServer(methods, "127.0.0.1", 0, options, tls)
    await server.start()
    address = f"127.0.0.1:{server.port}"

    async def code(own: Pair | None, root: Authority) -> grpc.StatusCode:
        keys = (own.key_pem, own.pem) if own else (None, None)
        # Without this a channel before has shaken hands for it.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root.pem, *keys), options) as channel:
            call = channel.unary_unary("/s/Echo")(b"x", timeout=SOON_S)
            return await call.code()

    ok, no = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    async with following(tls):
        try:
            assert await code(ours, authority) is ok
            assert (await code(theirs, authority), await code(None, authority)) == (no, no)
            before = tls.contents
            trusted.write_bytes(other.pem)
            await until(lambda: tls.contents is not before)
            assert (await code(ours, authority), await code(theirs, authority)) == (no, ok)
            before = tls.contents
            pair.replace_by(other.server("second"))
            await until(lambda: tls.contents is not before)
            assert (await code(theirs, authority), await code(theirs, other)) == (no, ok)
        finally:
            await server.stop(0)
