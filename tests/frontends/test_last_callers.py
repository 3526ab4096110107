"""Closing a port: who stands before it is let in and answered, and what is on its way to a connection is waited for."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import h2.config
import h2.connection
import onnx_models
import pytest
from callers import rest_body, row
from frontends.grpc_peers import framed, serving
from http_doors import Doors, opened

from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.last_callers import last_callers
from ortolan.frontends.listening import listening_socket
from ortolan.frontends.rest.inference_exchange import RestOptions

SOON_S = 20.0
CALLERS = 32


def infer() -> bytes:
    body = rest_body(row(1))
    return b"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def connected(port: int, stack: ExitStack) -> socket.socket:
    """A connection that the system has made, and that no event loop has seen."""
    connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), SOON_S)))
    connection.setblocking(False)
    return connection


async def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    loop, pieces = asyncio.get_running_loop(), [b""]
    async with asyncio.timeout(SOON_S):
        while piece := await loop.sock_recv(connection, 1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@asynccontextmanager
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    async with opened(tmp_path, RestOptions(1 << 20)) as both:
        yield both


@pytest.mark.parametrize("door", ["asgi", "own"])
async def test_who_has_been_connected_but_not_accepted_is_answered(tmp_path: Path, door: str) -> None:
    async with doors(tmp_path) as both:
        server: HttpServer = getattr(both, door)
        with ExitStack() as stack:
            callers = [connected(server.port, stack) for _ in range(CALLERS)]
            for caller in callers:
                caller.send(infer())
            # As the whole server does it.
            both.core.set_draining()
            await server.stop()
            for said in [await answer(caller) for caller in callers]:
                assert (said[:13], b"\r\nconnection: close\r\n" in said) == (b"HTTP/1.1 200 ", True)


@pytest.mark.parametrize("door", ["asgi", "own"])
async def test_a_request_that_comes_when_the_port_is_closed_is_answered_on_its_open_connection(
    tmp_path: Path, door: str
) -> None:
    async with doors(tmp_path) as both:
        server: HttpServer = getattr(both, door)
        with ExitStack() as stack:
            loop = asyncio.get_running_loop()
            kept, silent = connected(server.port, stack), connected(server.port, stack)
            await loop.sock_sendall(kept, infer())
            assert (await loop.sock_recv(kept, 1 << 16)).startswith(b"HTTP/1.1 200 ")
            both.core.set_draining()
            await server.stop()
            for caller in (kept, silent):
                caller.send(infer())
            for caller in (kept, silent):
                said = await answer(caller)
                assert (said[:13], b"\r\nconnection: close\r\n" in said) == (b"HTTP/1.1 200 ", True)


@pytest.mark.parametrize("door", ["asgi", "own"])
async def test_connections_on_which_nothing_comes_are_closed_soon(tmp_path: Path, door: str) -> None:
    async with doors(tmp_path) as both:
        server: HttpServer = getattr(both, door)
        with ExitStack() as stack:
            loop = asyncio.get_running_loop()
            kept, silent = connected(server.port, stack), connected(server.port, stack)
            await loop.sock_sendall(kept, infer())
            assert (await loop.sock_recv(kept, 1 << 16)).startswith(b"HTTP/1.1 200 ")
            await server.stop()
            assert [await answer(caller) for caller in (kept, silent)] == [b"", b""]


async def test_a_head_that_has_begun_is_waited_for(tmp_path: Path) -> None:
    async with doors(tmp_path) as both:
        with ExitStack() as stack:
            slow, idle = connected(both.own.port, stack), connected(both.own.port, stack)
            slow.send(infer()[:20])
            await both.own.stop()
            # By then whoever has begun nothing has been given up.
            assert await answer(idle) == b""
            slow.send(infer()[20:])
            assert (await answer(slow)).startswith(b"HTTP/1.1 200 ")


async def test_a_call_of_who_has_been_connected_but_not_accepted_is_answered() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as served:
        assert served.server is not None
        with ExitStack() as stack:
            callers = [connected(served.port, stack) for _ in range(CALLERS)]
            for caller in callers:
                caller.send(echo(b"hello"))
            stopping = asyncio.create_task(served.server.stop(SOON_S))
            for caller in callers:
                said = b""
                async with asyncio.timeout(SOON_S):
                    while b"hello" not in said:
                        piece = await loop.sock_recv(caller, 1 << 16)
                        assert piece, said
                        said += piece
                caller.close()
            await stopping


def echo(message: bytes) -> bytes:
    """A whole call, as a client's first bytes. h2 cannot read on behind a GOAWAY, which may come before the answer."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    fields = {":method": "POST", ":scheme": "http", ":path": "/s/Echo", ":authority": "x", "te": "trailers"}
    client.send_headers(1, [*fields.items(), ("content-type", "application/grpc")])
    client.send_data(1, framed(message), end_stream=True)
    return client.data_to_send()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can be kept out before the port is closed")
async def test_nobody_new_is_let_in_meanwhile() -> None:
    listening = listening_socket("127.0.0.1", 0, "--http-port")
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listening)
    address = listening.getsockname()
    await last_callers(listening)
    with closing(socket.socket()) as late:
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(address)
    server.close()
    with closing(socket.socket()) as later, pytest.raises(ConnectionRefusedError):
        later.connect(address)


async def test_a_socket_that_is_closed_has_no_callers() -> None:
    listening = listening_socket("127.0.0.1", 0, "--http-port")
    listening.close()
    await last_callers(listening)
