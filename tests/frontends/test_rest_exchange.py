"""ASGI applications over HTTP/2, beside gRPC, over real sockets; clients that say everything by hand."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import h2.exceptions
import pytest
from frontends.grpc_peers import MIB, SOON_S, HandClient, Served, framed
from starlette.types import Message, Receive, Scope, Send

from ortolan.frontends.grpc.http2_server import Http2Connections
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.one_port.rest_exchange import RestRequests
from ortolan.frontends.rest.hosts import ANY_HOST, AllowedHosts
from ortolan.http2.faults import ErrorCode

TEXT = (b"content-type", b"text/plain")


@dataclass
class App:
    """Applications by their paths, and what became of requests."""

    counts: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    scope: Scope | None = None

    def note(self, what: str) -> None:
        self.counts[what] += 1
        self.changed.set()

    async def until(self, what: str, count: int = 1) -> None:
        async with asyncio.timeout(SOON_S):
            while self.counts[what] < count:
                self.changed.clear()
                await self.changed.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.note("begun")
        try:
            await getattr(self, scope["path"].strip("/"))(receive, send)
            self.note("ended")
        except asyncio.CancelledError:
            self.note("cancelled")
            raise

    async def echo(self, receive: Receive, send: Send) -> None:
        body = await whole(receive)
        await answer(send, body)

    async def unread(self, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await answer(send, b"no thanks", 400)

    async def unread_later(self, receive: Receive, send: Send) -> None:
        await self.gate.wait()
        await self.unread(receive, send)

    async def pieces(self, receive: Receive, send: Send) -> None:
        """Each piece of 100 kB only when the one before has left."""
        await whole(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(30):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            self.note("piece")
        await send({"type": "http.response.body"})

    async def wait(self, receive: Receive, send: Send) -> None:
        """Answer when the gate opens, or note that the client has gone."""
        await whole(receive)
        message = await receive()
        self.note(message["type"])
        await answer(send, b"too late")

    async def hold(self, receive: Receive, send: Send) -> None:
        await self.gate.wait()
        await answer(send, await whole(receive))

    async def leave(self, receive: Receive, send: Send) -> None:
        await whole(receive)
        headers = [TEXT, (b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def empty(self, receive: Receive, send: Send) -> None:
        await whole(receive)
        await answer(send, b"", 204)

    async def fails(self, receive: Receive, send: Send) -> None:  # noqa: ARG002
        raise ValueError("secret")

    async def fails_midway(self, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})
        raise ValueError("secret")

    async def says_nothing(self, receive: Receive, send: Send) -> None: ...

    async def out_of_turn(self, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.body", "body": b"x"})


async def whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [TEXT]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Open:
    app: App
    methods: Served
    connections: Http2Connections
    port: int


@asynccontextmanager
async def opened(options: GrpcOptions | None = None, hosts: AllowedHosts = ANY_HOST) -> AsyncIterator[Open]:
    app, served = App(), Served()
    options = options or GrpcOptions(16 * MIB)
    connections = Http2Connections(served.methods(options), options, RestRequests(app, hosts).head)
    server = await asyncio.get_running_loop().create_server(connections.new, "127.0.0.1", 0)
    try:
        yield Open(app, served, connections, server.sockets[0].getsockname()[1])
    finally:
        app.gate.set()
        served.gate.set()
        server.close()
        await connections.stop(0)


def ask(client: HandClient, path: str, body: bytes | None = None, end: bool = True, **more: str) -> int:
    """Begin a request; what fits the client's windows of its body goes with ``flush``."""
    stream = client.h2.get_next_available_stream_id()
    method = more.pop("method", "GET" if body is None else "POST")
    fields = {":method": method, ":scheme": "http", ":path": path, ":authority": "here"}
    named = {name.replace("_", "-"): value for name, value in more.items()}
    client.h2.send_headers(stream, [*fields.items(), *named.items()], end_stream=end and not body)
    if body:
        client.h2.send_data(stream, body, end_stream=end)
    return stream


async def send_all(client: HandClient, stream: int, body: bytes) -> None:
    """As fast as the windows let it, up to a reset. StreamClosedError when that came just before."""
    while body and stream not in client.resets:
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size, len(body))
        if room:
            client.h2.send_data(stream, body[:room], end_stream=room == len(body))
            body = body[room:]
        else:
            assert await client.receive()
    await client.flush()


def status(client: HandClient, stream: int) -> int:
    return int(client.headers[stream][":status"])


@asynccontextmanager
async def client_of(options: GrpcOptions | None = None) -> AsyncIterator[tuple[Open, HandClient]]:
    async with opened(options) as port, HandClient.connected(port.port) as client:
        yield port, client


# Requests and answers


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_535, 3_000_000])
async def test_bodies_of_every_size_go_both_ways(size: int) -> None:
    async with client_of() as (_, client):
        body = bytes(range(256)) * (size // 256 + 1)
        stream = ask(client, "/echo", end=not size, method="POST")
        await send_all(client, stream, body[:size])
        await client.until_ended(stream)
        assert (status(client, stream), client.data.get(stream, b"")) == (200, body[:size])


async def test_the_application_is_told_what_was_asked_and_by_whom() -> None:
    async with client_of() as (port, client):
        await client.until_ended(ask(client, "/unread?a=b", x_more="1"))
        scope = port.app.scope
        assert scope is not None
        assert scope["headers"] == [(b"host", b"here"), (b"x-more", b"1")]
        assert (scope["method"], scope["query_string"], scope["http_version"]) == ("GET", b"a=b", "2")
        assert (scope["server"], scope["client"][0]) == (("127.0.0.1", port.port), "127.0.0.1")


async def test_requests_of_equal_fields_share_nothing_that_can_change() -> None:
    async with client_of() as (port, client):
        scopes = []
        for _ in range(2):
            await client.until_ended(ask(client, "/unread"))
            assert port.app.scope is not None
            scopes.append(port.app.scope)
            scopes[-1]["headers"].append((b"own", b"1"))
            scopes[-1]["state"]["own"] = 1
        assert scopes[1]["headers"].count((b"own", b"1")) == 1
        assert scopes[0]["state"] is not scopes[1]["state"]


@pytest.mark.parametrize(("path", "body"), [("/echo", b"body"), ("/pieces", b""), ("/empty", b"")])
async def test_head_is_answered_without_data(path: str, body: bytes) -> None:
    async with client_of() as (_, client):
        stream = ask(client, path, body, method="HEAD")
        await client.until_ended(stream)
        assert client.headers[stream]["content-type"] == "text/plain"
        assert not client.data.get(stream)


async def test_an_answer_has_a_date_and_nothing_of_http1() -> None:
    async with client_of() as (_, client):
        stream = ask(client, "/leave")
        await client.until_ended(stream)
        names = [*client.headers[stream]]
        assert names == [":status", "date", "content-type", "content-length"]
        assert client.data[stream] == b"ok"


async def test_an_answer_that_closes_its_connection_waits_for_the_others_that_are_under_way() -> None:
    """The client is h2, which can take nothing any more after a GOAWAY."""
    async with client_of() as (port, client):
        held = ask(client, "/hold")
        last = ask(client, "/leave")
        await client.until_ended(last)
        port.app.gate.set()
        await client.until_ended(held)
        assert (status(client, last), status(client, held)) == (200, 200)
        while not client.goaways:
            assert await client.receive()
        assert int(client.goaways[0].error_code) == ErrorCode.NO_ERROR


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with client_of() as (_, client):
        stream = ask(client, "/echo", end=False, method="POST", expect="100-continue")
        while (told := client.informed.get(stream)) is None:
            assert await client.receive()
        assert told == "100"
        client.h2.send_data(stream, b"body", end_stream=True)
        await client.until_ended(stream)
        assert (status(client, stream), client.data[stream]) == (200, b"body")


async def test_a_client_that_asks_first_is_told_no_instead() -> None:
    async with client_of() as (_, client):
        stream = ask(client, "/unread", end=False, method="POST", expect="100-continue")
        await client.until_ended(stream)
        assert (status(client, stream), client.informed) == (400, {})
        assert client.resets == {stream: ErrorCode.NO_ERROR}


# Who is asked


CALL = {"content_type": "application/grpc", "te": "trailers"}


@pytest.mark.parametrize(
    ("path", "fields", "status_code", "grpc_status"),
    [
        ("/s/Echo", CALL, 200, "0"),
        ("/s/Echo", {"content_type": "application/grpc+proto"}, 200, "0"),
        ("/s/Nope", CALL, 200, str(grpc.StatusCode.UNIMPLEMENTED.value[0])),
        # A method's path, and what is grpc-web, are told what is wrong, as on a port that is gRPC's alone.
        ("/s/Echo", {"content_type": "application/json"}, 415, "2"),
        ("/s/Echo", {}, 415, "2"),
        ("/echo", {"content_type": "application/grpc-web"}, 415, "2"),
        ("/echo", {"content_type": "application/json"}, 200, None),
        ("/echo", {}, 200, None),
    ],
)
async def test_the_type_of_the_content_and_the_path_say_who_is_asked(
    path: str, fields: dict[str, str], status_code: int, grpc_status: str | None
) -> None:
    async with client_of() as (_, client):
        stream = ask(client, path, framed(b"data"), **fields)
        await client.until_ended(stream)
        assert (status(client, stream), client.headers[stream].get("grpc-status")) == (status_code, grpc_status)


async def test_both_kinds_are_answered_beside_each_other_on_one_connection() -> None:
    async with client_of() as (_, client):
        calls = [client.call("Echo", b"%d" % number) for number in range(50)]
        requests = [ask(client, "/echo", b"%d" % number) for number in range(50)]
        await client.until_ended(*calls, *requests)
        assert [client.data[stream] for stream in calls] == [framed(b"%d" % number) for number in range(50)]
        assert [client.data[stream] for stream in requests] == [b"%d" % number for number in range(50)]


@pytest.mark.parametrize(("path", "more"), [("*", {"method": "OPTIONS"}), ("/", {"method": "get"}), ("/%00", {})])
async def test_what_is_no_request_is_refused_or_routed_and_the_connection_goes_on(
    path: str, more: dict[str, str]
) -> None:
    async with client_of() as (_, client):
        wrong = ask(client, path, **more)
        right = ask(client, "/echo", b"x")
        await client.until_ended(wrong, right)
        assert (status(client, wrong), status(client, right)) == (400 if more else 500, 200)


async def test_an_expectation_that_nobody_knows_is_refused_as_over_http1() -> None:
    async with client_of() as (port, client):
        stream = ask(client, "/unread", expect="banana")
        await client.until_ended(stream)
        assert (status(client, stream), port.app.counts["begun"]) == (417, 0)
        assert b"100-continue" in client.data[stream]


async def test_only_hosts_that_the_operator_allows_are_answered_but_for_health() -> None:
    for hosts, path, expected in (
        ("here", "/unread", 400),
        ("there", "/unread", 421),
        ("there", "/v2/health/live", 200),
    ):
        async with opened(hosts=AllowedHosts([hosts])) as port, HandClient.connected(port.port) as client:
            setattr(port.app, "v2/health/live", port.app.echo)
            stream = ask(client, path)
            await client.until_ended(stream)
            assert (status(client, stream), port.app.counts["begun"]) == (expected, int(expected != 421))


async def test_fields_that_are_too_large_are_refused() -> None:
    async with client_of() as (port, client):
        stream = ask(client, "/echo", x_long="y" * 20_000)
        await client.until_ended(stream)
        assert (status(client, stream), b"header fields are too large" in client.data[stream]) == (400, True)
        assert not port.app.counts


# Flow


async def test_an_application_that_does_not_read_is_sent_no_more_than_a_window() -> None:
    async with client_of() as (port, client):
        await client.until_ended(client.call("Echo", b"settings have come"))
        stream = ask(client, "/hold", end=False, method="POST")
        sent = 0
        while room := min(client.h2.local_flow_control_window(stream), 16_384):
            client.h2.send_data(stream, bytes(room))
            sent += room
        await client.until_ended(client.call("Echo", b"nothing else has come"))
        assert (client.h2.local_flow_control_window(stream), sent) == (0, 1 << 20)
        port.app.gate.set()
        await send_all(client, stream, bytes(2_000_000))
        await client.until_ended(stream)
        assert len(client.data[stream]) == sent + 2_000_000


async def test_a_client_that_does_not_read_is_not_written_for() -> None:
    async with client_of() as (port, client):
        client.reading = False
        stream = ask(client, "/pieces")
        while len(client.data.get(stream, b"")) < 65_535:
            assert await client.receive()
        assert port.app.counts["piece"] == 0
        client.reading = True
        client.h2.increment_flow_control_window(10 * MIB)
        client.h2.increment_flow_control_window(10 * MIB, stream)
        await client.until_ended(stream)
        assert len(client.data[stream]) == 3_000_000


async def test_a_client_that_does_not_read_holds_up_nobody_else() -> None:
    async with client_of() as (_, client):
        client.reading = False
        ask(client, "/pieces")
        client.h2.increment_flow_control_window(10 * MIB)
        other = ask(client, "/echo", b"x")
        await client.until_ended(other)
        assert client.data[other] == b"x"


async def test_a_client_that_goes_is_told_of_and_what_is_sent_to_it_dropped() -> None:
    async with opened() as port:
        async with HandClient.connected(port.port) as client:
            stream = ask(client, "/wait")
            await client.flush()
            await port.app.until("begun")
            client.h2.reset_stream(stream)
            await client.flush()
            await port.app.until("http.disconnect")
            ask(client, "/wait")
            unfinished = ask(client, "/echo", b"x", end=False)
            assert unfinished
            stalled = ask(client, "/pieces")
            assert stalled
            client.reading = False
            await client.flush()
            await port.app.until("begun", 4)
        await port.app.until("http.disconnect", 2)
        await port.app.until("ended", 3)
        await port.app.until("cancelled")


@pytest.mark.parametrize("how", ["sends all", "goes silent", "resets", "never ends"])
async def test_a_client_that_is_still_sending_when_its_answer_is_there_may_finish(how: str) -> None:
    async with client_of() as (port, client):
        await client.until_ended(client.call("Echo", b"settings have come"))
        stream = ask(client, "/unread", end=False, method="POST")
        while not client.data.get(stream):
            assert await client.receive()
        assert (status(client, stream), client.data[stream], client.ended) == (400, b"no thanks", {1})
        if how == "sends all":
            await send_all(client, stream, bytes(3 * MIB))
        elif how == "resets":
            client.h2.reset_stream(stream)
        elif how == "never ends":
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                await send_all(client, stream, bytes(100 * MIB))
        if how != "resets":
            await client.until_ended(stream)
            assert client.resets == ({} if how == "sends all" else {stream: ErrorCode.NO_ERROR})
        await client.until_ended(client.call("Echo", b"the connection goes on"))
        assert port.connections.held_bytes == 0


async def test_what_nobody_read_before_the_answer_gives_its_room_back() -> None:
    async with client_of() as (port, client):
        await client.until_ended(client.call("Echo", b"settings have come"))
        stream = ask(client, "/unread_later", end=False, method="POST")
        while room := min(client.h2.local_flow_control_window(stream), 16_384):
            client.h2.send_data(stream, bytes(room))
        await client.until_ended(client.call("Echo", b"all of it has come"))
        port.app.gate.set()
        await send_all(client, stream, bytes(3 * MIB))
        await client.until_ended(stream)
        assert (status(client, stream), client.resets) == (400, {})


# Limits


async def test_what_is_held_of_requests_that_are_not_whole_is_counted_and_the_largest_gives_way() -> None:
    async with client_of(GrpcOptions(MIB, held_bytes=400_000)) as (port, client):
        streams = [ask(client, "/hold", end=False, method="POST") for _ in range(2)]
        assert await client.receive()
        for stream, size in zip(streams, (300_000, 150_000), strict=True):
            for _ in range(size // 15_000):
                client.h2.send_data(stream, bytes(15_000))
            await client.flush()
        await client.until_ended(streams[0])
        assert status(client, streams[0]) == 503
        assert "retry-after" in client.headers[streams[0]]
        await port.app.until("cancelled")
        client.h2.send_data(streams[1], b"", end_stream=True)
        port.app.gate.set()
        await client.until_ended(streams[1])
        assert (status(client, streams[1]), len(client.data[streams[1]])) == (200, 150_000)
        assert port.connections.held_bytes == 0


async def test_whole_requests_are_the_applications() -> None:
    async with client_of(GrpcOptions(MIB, held_bytes=100_000)) as (port, client):
        stream = ask(client, "/hold", end=False, method="POST")
        assert await client.receive()
        await send_all(client, stream, bytes(70_000))
        ping = client.call("Echo", b"1")
        await client.until_ended(ping)
        assert port.connections.held_bytes == 0
        port.app.gate.set()
        await client.until_ended(stream)
        assert len(client.data[stream]) == 70_000


@pytest.mark.parametrize("attack", ["resets", "scraps", "empty data"])
async def test_floods_end_the_connection(attack: str) -> None:
    async with client_of() as (_, client):
        stream = ask(client, "/hold", end=False, method="POST")
        assert await client.receive()
        for _ in range(4000):
            if attack == "resets":
                client.h2.reset_stream(ask(client, "/echo", end=False))
            else:
                client.h2.send_data(stream, b"x" if attack == "scraps" else b"")
        while not client.goaways:
            assert await client.receive()
        assert int(client.goaways[-1].error_code) == ErrorCode.ENHANCE_YOUR_CALM


# Errors


@pytest.mark.parametrize(
    ("path", "answered", "reset"),
    [
        ("/fails", 500, {}),
        ("/out_of_turn", 500, {}),
        ("/no_such_method_of_the_app", 500, {}),
        ("/fails_midway", 200, ErrorCode.INTERNAL_ERROR),
        ("/says_nothing", None, ErrorCode.INTERNAL_ERROR),
    ],
)
async def test_a_fault_of_the_application_is_no_answer_of_its_own(
    path: str, answered: int | None, reset: ErrorCode | dict[int, int]
) -> None:
    async with client_of() as (_, client):
        stream = ask(client, path)
        await client.until_ended(stream)
        assert b"secret" not in client.data.get(stream, b"")
        assert client.headers.get(stream, {}).get(":status") == (str(answered) if answered else None)
        assert client.resets == ({stream: reset} if reset else {})


# The end


@pytest.mark.parametrize(("grace_s", "expected"), [(SOON_S, 200), (0.05, 503)])
async def test_what_runs_when_the_server_stops_is_answered_and_what_outlasts_the_grace_told(
    grace_s: float, expected: int
) -> None:
    async with client_of() as (port, client):
        stream = ask(client, "/hold")
        await client.flush()
        await port.app.until("begun")
        stopping = asyncio.create_task(port.connections.stop(grace_s))
        await asyncio.sleep(0)
        if expected == 200:
            port.app.gate.set()
        await client.until_ended(stream)
        assert status(client, stream) == expected
        client.writer.close()
        await asyncio.wait_for(stopping, SOON_S)
        await port.app.until("ended" if expected == 200 else "cancelled")


async def test_a_request_that_is_not_whole_when_the_grace_is_over_is_told_so() -> None:
    async with client_of() as (port, client):
        stream = ask(client, "/echo", b"x", end=False)
        await client.flush()
        await port.app.until("begun")
        stopping = asyncio.create_task(port.connections.stop(0.05))
        await client.until_ended(stream)
        assert (status(client, stream), client.resets) == (503, {stream: ErrorCode.NO_ERROR})
        client.writer.close()
        await asyncio.wait_for(stopping, SOON_S)
