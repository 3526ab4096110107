"""What no client of an HTTP port can do, whichever way it is answered: smuggle, fill, stall, or go unseen."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import http_doors
import onnx_models
import pytest
from http_doors import until

from ortolan.frontends.http_server import HttpServer
from ortolan.frontends.rest.hosts import ANY_HOST, AllowedHosts
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.inference_exchange import RestOptions

ONE_AT_A_TIME = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
MODELS = {
    "double": (onnx_models.doubler(), ""),
    "wide": (onnx_models.widener(4_000_000), ""),
    "endless": (onnx_models.slow(2**40), ONE_AT_A_TIME),
}
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
BODY_BYTES = 200_000
QUICK = HttpLimits(head_s=0.2, pace_s=0.3, stalled_s=0.5, linger_s=0.2)


def head(model: str, size: int | None, *headers: str) -> bytes:
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: x", *headers]
    return "\r\n".join([*lines, *([] if size is None else [f"Content-Length: {size}"]), "", ""]).encode()


def request(model: str, *headers: str) -> bytes:
    return head(model, len(GOOD), *headers) + GOOD


Opened = Callable[..., AbstractAsyncContextManager[HttpServer]]


@pytest.fixture(params=["asgi", "own"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens one of the doors: with more models than ``double``, with limits, and with how many bytes it may hold."""

    @asynccontextmanager
    async def open_door(
        *models: str,
        limits: HttpLimits | None = None,
        held_bytes: int = 1 << 30,
        hosts: AllowedHosts = ANY_HOST,
    ) -> AsyncIterator[HttpServer]:
        for name in ("double", *models):
            model, config = MODELS[name]
            onnx_models.save_version(tmp_path, name, model, config=config)
        async with http_doors.opened(
            tmp_path, RestOptions(1 << 20, held_bytes=held_bytes, hosts=hosts), limits
        ) as doors:
            yield getattr(doors, request.param)

    return open_door


class Client:
    """A client with one connection, every wait of which ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def status(self) -> int:
        """That of the next answer, without an answer's body."""
        async with asyncio.timeout(http_doors.LONGEST_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "\r\ncontent-length: " in lines:
                await self._reader.readexactly(int(lines.split("\r\ncontent-length: ")[1].split("\r\n")[0]))
            return int(lines.split()[1])

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        async with asyncio.timeout(http_doors.LONGEST_S):
            return await self._reader.read()


@asynccontextmanager
async def connected(door: HttpServer) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def connection_of(door: HttpServer) -> Any:
    await until(lambda: len(door.server_state.connections) == 1)
    (connection,) = door.server_state.connections
    return connection


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_of_a_request_that_offers_another_protocol_is_no_request(
    opened: Opened, protocol: str, chunked: bool
) -> None:
    offer = ("Connection: Upgrade", f"Upgrade: {protocol}", "Expect: 100-continue")
    async with opened() as door, connected(door) as client:
        client.writer.write(head("double", None, *offer, CHUNKED) if chunked else head("double", len(GOOD), *offer))
        # The body comes in a segment of its own, since nobody sends it before this.
        assert await client.status() == 100
        client.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD) if chunked else GOOD)
        assert await client.status() == 200
        client.writer.write(head("double", len(LIVE), *offer[:2]) + LIVE + LIVE)
        assert [await client.status(), await client.status()] == [400, 200]


async def test_nobody_is_tunnelled(opened: Opened) -> None:
    async with opened() as door, connected(door) as client:
        client.writer.write(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LIVE) + LIVE)
        assert await client.status() == 501
        assert await client.rest() == b""


async def test_requests_that_are_sent_ahead_wait_unparsed(opened: Opened) -> None:
    many = 5000
    async with opened("endless") as door, connected(door) as client:
        client.writer.write(request("endless", "X-Request-Timeout: 1"))
        connection = await connection_of(door)
        await until(lambda: len(door.server_state.tasks) == 1)
        client.writer.write(LIVE * many)
        await until(lambda: connection.flow.read_paused)
        assert 0 < len(connection.pipeline) < 200
        assert await client.status() == 504
        assert {await client.status() for _ in range(many)} == {200}


async def test_what_is_no_http_is_answered_in_its_turn(opened: Opened) -> None:
    async with opened("endless") as door, connected(door) as client:
        client.writer.write(request("endless", "X-Request-Timeout: 0.2") + LIVE + b"garbage\r\n\r\n" + LIVE)
        assert [await client.status() for _ in range(3)] == [504, 200, 400]
        assert await client.rest() == b""


async def test_a_broken_body_takes_no_others_turn(opened: Opened) -> None:
    async with opened("endless") as door, connected(door) as client:
        client.writer.write(request("endless", "X-Request-Timeout: 0.2") + head("double", None, CHUNKED) + b"zz\r\n")
        assert [await client.status() for _ in range(2)] == [504, 400]
        assert await client.rest() == b""


async def test_a_client_that_goes_takes_all_its_requests_along(opened: Opened) -> None:
    async with opened("endless") as door, connected(door) as client:
        client.writer.write(request("endless") * 2 + LIVE)
        connection = await connection_of(door)
        await until(lambda: len(connection.pipeline) == 2)
        waiting = [cycle for cycle, _ in connection.pipeline]
        connection.transport.abort()
        await until(lambda: not door.server_state.tasks)
        assert all(cycle.disconnected for cycle in waiting)


LONG_HEADS = {
    "one value": b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000,
    "many headers": b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(b"X-%d: y" % number for number in range(9000)),
    "a long path": b"GET /" + b"a" * 70_000,
}


async def test_a_head_has_a_limit(opened: Opened) -> None:
    async with opened() as door:
        for name, sent in LONG_HEADS.items():
            async with connected(door) as client:
                client.writer.write(sent)
                assert await client.status() == (414 if name == "a long path" else 431), name
                assert await client.rest() == b""


@pytest.mark.parametrize("end", [b"0\r\n" + b"X: y\r\n" * 20_000, b"1;" + b"a" * 70_000])
async def test_what_is_around_a_body_has_the_same_limit(opened: Opened, end: bytes) -> None:
    async with opened() as door, connected(door) as client:
        client.writer.write(head("double", None, CHUNKED) + b"1\r\n{\r\n" + end)
        assert await client.status() == 431
        assert await client.rest() == b""


async def test_a_head_within_the_limit_and_a_body_in_scraps_are_taken(opened: Opened) -> None:
    body = b" " * 30_000 + GOOD
    async with opened() as door, connected(door) as client:
        client.writer.write(LIVE.replace(b"Host", b"X: " + b"a" * 60_000 + b"\r\nHost"))
        assert await client.status() == 200
        scraps = b"".join(b"1\r\n%b\r\n" % body[at : at + 1] for at in range(len(body)))
        client.writer.write(head("double", None, CHUNKED) + scraps + b"0\r\nX: y\r\n\r\n" + LIVE)
        assert [await client.status(), await client.status()] == [200, 200]


LATE = {
    "nothing": (b"", b""),
    "half a head": (LIVE[:-4], b" 408 "),
    "half a body": (request("double")[:-9], b" 408 "),
    "half a large body": (head("double", BODY_BYTES) + bytes(BODY_BYTES - 9), b" 408 "),
    "half a body in chunks": (head("double", None, CHUNKED) + b"1\r\n{\r\n", b" 408 "),
    "half a body of a route": (
        b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b" 408 ",
    ),
}


async def test_what_does_not_come_in_time_is_given_up(opened: Opened) -> None:
    async with opened(limits=QUICK) as door:
        for name, (sent, status) in LATE.items():
            async with connected(door) as client:
                client.writer.write(sent)
                answer = await client.rest()
                assert answer[8:13] == status, name
                await until(lambda: not door.server_state.tasks and not door.server_state.connections)


async def test_a_large_body_that_keeps_coming_has_its_time(opened: Opened) -> None:
    limits = HttpLimits(pace_s=0.6, pace_bytes=30_000)
    async with opened(limits=limits) as door, connected(door) as client:
        body = b" " * BODY_BYTES + GOOD
        client.writer.write(head("double", len(body)))
        for at in range(0, len(body), 20_000):
            client.writer.write(body[at : at + 20_000])
            await asyncio.wait([asyncio.create_task(client.writer.drain())], timeout=0.2)
            await asyncio.sleep(0.1)  # slower than at once, which is what is tested
        assert await client.status() == 200


async def test_who_takes_nothing_of_an_answer_is_left(opened: Opened) -> None:
    one = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
    async with opened("wide", limits=QUICK) as door, connected(door) as client:
        client.writer.transport.pause_reading()
        client.writer.write(head("wide", len(one)) + one)
        connection = await connection_of(door)
        await until(lambda: connection.flow.write_paused)
        await until(lambda: not door.server_state.connections)


async def test_of_what_is_held_who_holds_most_gives_way(opened: Opened) -> None:
    body = b" " * BODY_BYTES + GOOD
    async with opened(held_bytes=BODY_BYTES + 100_000) as door, connected(door) as most, connected(door) as less:
        most.writer.write(head("double", len(body)) + body[:-1])
        less.writer.write(head("double", len(body)) + body[: BODY_BYTES - 50_000])
        assert await most.status() == 503
        assert await most.rest() == b""
        less.writer.write(body[BODY_BYTES - 50_000 :])
        assert await less.status() == 200
        # What was held is free again.
        less.writer.write(head("double", len(body)) + body)
        assert await less.status() == 200


RULES = [
    (request("double").replace(b"Host: x\r\n", b""), 400),
    (request("double", "Host: y"), 400),
    (request("double").replace(b"Host: x", b"Host: a b"), 400),
    (request("double", "Expect: banana"), 417),
    (head("double", None, CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1) + b"0\r\n\r\n", 400),
    (b"GET /v2/health/live\r\n\r\n", 505),
    (head("double", None, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    (request("double", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1), 200),
]


async def test_rules_of_http_that_the_parser_leaves_to_others(opened: Opened) -> None:
    async with opened() as door:
        for sent, status in RULES:
            async with connected(door) as client:
                client.writer.write(sent)
                assert await client.status() == status
                assert await client.rest() == b""


NO_HTTP = [
    (head("double", 5, "Content-Length: 5"), "Duplicate Content-Length"),
    (head("double", None, CHUNKED) + b"zz\r\n", "Invalid character in chunk size"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99), "Invalid method"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is not spoken on this port"),
    (b"GET /v2 HTTP/1.1\r\nHost : x\r\n\r\n", "Invalid header token"),
]


async def test_what_is_no_http_is_told_why_and_by_whom_it_was_sent_is_logged(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as door:
        for sent, reason in NO_HTTP:
            async with connected(door) as client:
                client.writer.write(sent)
                answer = (await client.rest()).decode()
                assert answer.startswith("HTTP/1.1 400 ")
                assert f'"Invalid HTTP request received: {reason}' in answer
    told = [record.getMessage() for record in caplog.records if "what is no HTTP" in record.getMessage()]
    assert "127.0.0.1:" in told[0]
    assert NO_HTTP[0][1] in told[0]
    assert len(told) < len(NO_HTTP), "one a second at most"


UNREAD = {
    "a refused inference": (head("double", 1 << 40), b" 400 "),
    "one that asks before it sends": (head("double", 2**63, "Expect: 100-continue"), b" 400 "),
    "a refused route": (
        b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n",
        b" 413 ",
    ),
    "a route that takes no body": (LIVE.replace(b"\r\n\r\n", b"\r\nContent-Length: 9999999999\r\n\r\n"), b" 200 "),
}


async def test_a_body_that_is_not_worth_reading_ends_the_connection_with_its_answer(opened: Opened) -> None:
    async with opened(limits=HttpLimits(linger_s=0.2)) as door:
        for name, (sent, status) in UNREAD.items():
            async with connected(door) as client:
                client.writer.write(sent)
                answer = await client.rest()
                assert answer[8:13] == status, name
                assert answer.count(b"HTTP/1.1 ") == 1
                await until(lambda: not door.server_state.connections)


async def test_what_follows_a_refusal_in_chunks_is_thrown_away_up_to_a_limit(opened: Opened) -> None:
    limits = HttpLimits(unwanted_bytes=3 << 20, linger_s=0.2)
    chunk = b"%x\r\n%b\r\n" % (1 << 16, bytes(1 << 16))
    async with opened(limits=limits) as door:
        async with connected(door) as client:
            client.writer.write(head("double", None, CHUNKED) + chunk * 32 + b"0\r\n\r\n" + LIVE)
            assert [await client.status(), await client.status()] == [400, 200]
        async with connected(door) as client:
            client.writer.write(head("double", None, CHUNKED) + chunk * 64)
            assert await client.status() == 400
            assert await client.rest() == b""


async def test_only_hosts_that_the_operator_allows_are_answered(opened: Opened) -> None:
    async with opened(hosts=AllowedHosts(["inside.example"])) as door:
        for sent, status in (
            (request("double"), 421),
            (LIVE.replace(b"/v2/health/live", b"/v2"), 421),
            (LIVE, 200),
            (request("double").replace(b"Host: x", b"Host: Inside.Example:8000"), 200),
        ):
            async with connected(door) as client:
                client.writer.write(sent)
                assert await client.status() == status, sent
        # Not even where all of it came before, but for the host.
        async with connected(door) as client:
            known = request("double").replace(b"Host: x", b"Host: inside.example")
            for _ in range(20):
                client.writer.write(known)
                assert await client.status() == 200
            client.writer.write(known.replace(b"inside.example", b"others.example"))
            assert await client.status() == 421
