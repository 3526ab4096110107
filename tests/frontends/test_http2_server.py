"""gRPC on our own transport, over real sockets: grpcio's clients, and calls as no client library would send them."""

import asyncio
import gc
import ssl
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from certificates import Authority
from frontends.grpc_peers import MIB, SOON_S, HandClient, Served, Transport, framed, serving

from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_call import Http2Call
from ortolan.frontends.grpc.http2_connection import GrpcConnection
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.grpc.stream_call import StreamCall
from ortolan.frontends.tls.certificates import Speaks
from ortolan.frontends.tls.server_tls import ServerTls, TlsPort
from ortolan.frontends.tls.tls_files import TlsFiles
from ortolan.http2 import frames
from ortolan.http2.faults import ErrorCode
from ortolan.http2.header_blocks import encode
from ortolan.http2.stream import Stream

CODE = grpc.StatusCode
GRPC = b"application/grpc"
both = pytest.mark.parametrize("transport", [Http2Server, GrpcioServer])


def channel(served: Served, *options: tuple[str, int]) -> grpc.aio.Channel:
    sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{served.port}", options=[*sizes, *options])


def connections() -> list[GrpcConnection]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, GrpcConnection)]


async def outcome(call: grpc.aio.UnaryUnaryCall) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return CODE.OK


# Calls


@both
@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 600_000, 6_000_000])
async def test_messages_of_every_size_go_both_ways(transport: type[Transport], size: int) -> None:
    async with serving(transport=transport) as served, channel(served) as client:
        data = bytes(range(256)) * (size // 256 + 1)
        assert await client.unary_unary("/s/Echo")(data[:size], timeout=SOON_S) == data[:size]
        stream = client.stream_stream("/s/Echoes")(iter([data[:size], b"", data[:size]]), timeout=SOON_S)
        assert [message async for message in stream] == [data[:size], b"", data[:size]]


@both
async def test_many_calls_at_once_each_get_their_own_answer(transport: type[Transport]) -> None:
    async with serving(transport=transport) as served, channel(served) as client:
        call = client.unary_unary("/s/Echo")
        sent = [b"%d" % number * (number % 700) for number in range(3000)]
        assert await asyncio.gather(*(call(data, timeout=60) for data in sent)) == sent


@both
@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_go_both_ways(transport: type[Transport], kind: grpc.Compression) -> None:
    options = GrpcOptions(MIB, compression="medium")
    async with serving(options, transport) as served, channel(served) as client:
        data = b"compress me" * 10_000
        assert await client.unary_unary("/s/Echo")(data, compression=kind, timeout=SOON_S) == data
        stream = client.stream_stream("/s/Echoes")(iter([data, data]), compression=kind, timeout=SOON_S)
        assert [message async for message in stream] == [data, data]


@both
async def test_a_client_with_small_windows_gets_large_answers_and_is_not_sent_away_for_its_pings(
    transport: type[Transport],
) -> None:
    async with serving(transport=transport) as served, channel(served, ("grpc.http2.lookahead_bytes", 1024)) as client:
        calls = [client.unary_unary("/s/Grow")(b"%d" % (20 * MIB), timeout=60) for _ in range(4)]
        assert [len(answer) for answer in await asyncio.gather(*calls)] == [20 * MIB] * 4


@both
async def test_a_client_that_cancels_or_goes_cancels_its_call(transport: type[Transport]) -> None:
    async with serving(transport=transport) as served:
        async with channel(served) as client:
            call = client.unary_unary("/s/Wait")(b"")
            await served.until("waiting")
            call.cancel()
            await served.until("cancelled")
            lost = client.unary_unary("/s/Wait")(b"")
            stream = client.stream_stream("/s/Echoes")()
            await stream.write(b"1")
            assert await stream.read() == b"1"
            await served.until("waiting", 2)
        await served.until("cancelled", 2)
        await served.until("stream ended")
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await lost


@both
async def test_a_deadline_ends_calls_of_both_kinds(transport: type[Transport]) -> None:
    async with serving(transport=transport) as served, channel(served) as client:
        assert await outcome(client.unary_unary("/s/Wait")(b"", timeout=0.2)) is CODE.DEADLINE_EXCEEDED
        await served.until("cancelled")
        stream = client.stream_stream("/s/Echoes")(timeout=0.2)
        await stream.write(b"1")
        assert await stream.read() == b"1"
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
        await served.until("stream ended")


@pytest.mark.parametrize(
    ("method", "messages", "end"),
    [("Wait", [b"1"], True), ("Wait", [b"1"], False), ("Wait", [], False), ("Echoes", [b"1"], False)],
    ids=["a call that runs", "a call that does not end", "a call without a message", "a stream"],
)
async def test_a_deadline_ends_what_its_client_forgets(method: str, messages: list[bytes], end: bool) -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        forgotten = client.call(method, *messages, end=end, grpc_timeout="200m")
        later = client.call("Wait", b"1", grpc_timeout="100H")
        async with asyncio.timeout(SOON_S / 4):
            await client.until_ended(forgotten)
        assert client.status(forgotten) == CODE.DEADLINE_EXCEEDED.value[0]
        if method == "Echoes":
            await served.until("stream ended")
        elif end:
            await served.until("cancelled")
        served.gate.set()
        await client.until_ended(later)
        assert client.status(later) == 0


async def test_nothing_is_left_of_streams_with_deadlines_that_are_reset_before_they_run() -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        for _ in range(50):
            client.h2.reset_stream(client.call("Echoes", b"1", end=False, grpc_timeout="99999999H"), ErrorCode.CANCEL)
        await client.until_ended(client.call("Echo", b"1"))
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, StreamCall)]
        assert served.counts["stream"] == 0


class NotingExecutor(ThreadPoolExecutor):
    """Counts what is handed to it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.count = 0

    def submit(self, *args, **more):  # type: ignore[no-untyped-def]
        self.count += 1
        return super().submit(*args, **more)


@pytest.mark.parametrize(("size", "in_thread"), [(10_000, 0), (100_000, 1)])
async def test_large_answers_are_not_compressed_on_the_event_loop(size: int, in_thread: int) -> None:
    executor = NotingExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    async with serving(GrpcOptions(MIB, compression="low")) as served, channel(served) as client:
        assert len(await client.unary_unary("/s/Grow")(b"%d" % size, timeout=SOON_S)) == size
        assert executor.count == in_thread
        stream = client.stream_stream("/s/Echoes")(iter([bytes(size)]), timeout=SOON_S)
        assert [message async for message in stream] == [bytes(size)]
        assert executor.count == 2 * in_thread


@pytest.mark.parametrize("end_alone", [False, True], ids=["with the data", "in a frame of its own"])
@pytest.mark.parametrize("method", ["Echo", "Echoes"])
async def test_the_end_of_a_request_may_come_with_its_data_or_alone(method: str, end_alone: bool) -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        stream = client.call(method, b"data", end=not end_alone)
        if end_alone:
            await client.flush()
            client.h2.send_data(stream, b"", end_stream=True)
        await client.until_ended(stream)
        assert (client.data[stream], client.status(stream)) == (framed(b"data"), 0)


async def test_trailers_may_end_a_request() -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        stream = client.call("Echo", b"data", end=False)
        client.h2.send_headers(stream, [("x-checksum", "1")], end_stream=True)
        await client.until_ended(stream)
        assert (client.data[stream], client.status(stream)) == (framed(b"data"), 0)


REFUSED = [
    ("nothing at all", "Echo", [], {}, CODE.INVALID_ARGUMENT),
    ("two messages", "Echo", [b"1", b"2"], {}, CODE.UNIMPLEMENTED),
    ("another method", "Nope", [b""], {}, CODE.UNIMPLEMENTED),
    ("a timeout that is none", "Echo", [b""], {"grpc_timeout": "soon"}, CODE.INTERNAL),
    ("fields without end", "Echo", [b""], {"x": "y" * 20_000}, CODE.RESOURCE_EXHAUSTED),
]


@pytest.mark.parametrize(("what", "method", "sent", "more", "code"), REFUSED, ids=[what for what, *_ in REFUSED])
async def test_what_is_no_call_of_ours_is_refused_and_the_next_is_answered(
    what: str, method: str, sent: list[bytes], more: dict[str, str], code: grpc.StatusCode
) -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        stream = client.call(method, *sent, **more)
        await client.until_ended(stream)
        assert client.status(stream) == code.value[0]
        good = client.call("Echo", b"1")
        await client.until_ended(good)
        assert client.status(good) == 0


@pytest.mark.parametrize(
    ("more", "status"), [({":method": "GET"}, "405"), ({"content-type": "text/html"}, "415")], ids=["GET", "text"]
)
async def test_what_is_no_grpc_is_answered_as_http_says(more: dict[str, str], status: str) -> None:
    async with serving() as served, HandClient.connected(served.port) as client:
        stream = client.h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/s/Echo",
            ":authority": "x",
            "content-type": "application/grpc",
        }
        client.h2.send_headers(stream, list((fields | more).items()), end_stream=True)
        await client.until_ended(stream)
        assert client.headers[stream][":status"] == status


# What is held for clients


async def test_messages_that_do_not_become_whole_are_bounded_and_other_clients_are_answered() -> None:
    options = GrpcOptions(MIB, held_bytes=2 * MIB)
    async with serving(options) as served, HandClient.connected(served.port) as greedy, channel(served) as other:
        while len(greedy.h2.remote_settings) < 7:
            await greedy.receive()
        for stream in [greedy.call("Echo", end=False) for _ in range(8)]:
            greedy.h2.send_data(stream, framed(bytes(MIB))[:300_000])
            await greedy.flush()
        honest = other.stream_stream("/s/Echoes")(timeout=SOON_S)
        await honest.write(b"1")
        assert await honest.read() == b"1"
        while not greedy.ended:
            await greedy.receive()
        refused = greedy.ended.pop()
        assert greedy.status(refused) == CODE.RESOURCE_EXHAUSTED.value[0]
        assert await other.unary_unary("/s/Echo")(bytes(MIB), timeout=SOON_S) == bytes(MIB)
        await honest.write(b"2")
        assert await honest.read() == b"2"


async def test_answers_that_nobody_takes_are_bounded_and_other_clients_are_answered() -> None:
    options = GrpcOptions(MIB, held_bytes=20 * MIB)
    async with serving(options) as served, HandClient.connected(served.port) as greedy, channel(served) as other:
        greedy.reading = False
        streams = [greedy.call("Grow", b"%d" % (5 * MIB)) for _ in range(16)]
        await greedy.flush()
        await served.until("grow", 16)
        while len(greedy.resets) < 12:
            assert await greedy.receive()
        assert set(greedy.resets.values()) == {ErrorCode.ENHANCE_YOUR_CALM}
        assert set(greedy.resets) < set(streams)
        answer = await other.unary_unary("/s/Grow")(b"%d" % (5 * MIB), timeout=SOON_S)
        assert len(answer) == 5 * MIB


async def test_nothing_is_left_of_clients_that_die_in_the_midst_of_anything() -> None:
    before = len(connections())
    async with serving() as served:
        for _ in range(20):
            async with HandClient.connected(served.port) as client:
                client.call("Wait", b"1")
                client.call("Wait", b"1", end=False)
                client.call("Echoes", b"1", end=False)
                half = client.call("Echo", end=False)
                client.h2.send_data(half, framed(bytes(10_000))[:5000])
                client.call("Grow", b"1000000")
                await client.flush()
                await served.until("waiting")
                served.counts["waiting"] = 0
        await served.until("cancelled", 20)
        await served.until("stream ended", 20)
        assert isinstance(served.server, Http2Server)
        await served.server.stop(SOON_S)
        await asyncio.sleep(0)
        assert len(connections()) == before
        assert served.server.held_bytes == 0


async def test_a_call_that_ended_waits_for_no_garbage_collector() -> None:
    async with serving() as served, channel(served) as client:
        await client.unary_unary("/s/Echo")(b"warm")
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await client.unary_unary("/s/Echo")(b"data")
            left = [thing for thing in gc.get_objects() if isinstance(thing, Http2Call | Stream)]
        finally:
            gc.enable()
        assert len(left) < 5


# The end


async def test_no_call_is_lost_while_servers_are_replaced_one_after_the_other() -> None:
    """Clients know two servers, as behind a balancer, and hammer them while one at a time is stopped and replaced."""
    options = GrpcOptions(MIB)
    served = Served()
    servers = [Http2Server(served.methods(options), "127.0.0.1", 0, options) for _ in range(2)]
    for server in servers:
        await server.start()
    failures: list[grpc.StatusCode] = []
    answered = 0
    over = False

    async def hammer(client: grpc.aio.Channel) -> None:
        nonlocal answered
        call = client.unary_unary("/s/Echo")
        while not over:
            code = await outcome(call(b"data", timeout=SOON_S))
            answered += 1
            if code is not CODE.OK:
                failures.append(code)

    ports = f"ipv4:127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}"
    channels = [grpc.aio.insecure_channel(ports) for _ in range(3)]
    hammering = [asyncio.create_task(hammer(client)) for client in channels for _ in range(8)]
    try:
        for index in (0, 1, 0, 1):
            await served.until("echo", served.counts["echo"] + 300)
            port = servers[index].port
            await servers[index].stop(SOON_S)
            servers[index] = Http2Server(served.methods(options), "127.0.0.1", port, options)
            await servers[index].start()
            # The clients' channels have to find it again before the other one goes.
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as one:
                await one.unary_unary("/s/Echo")(b"", timeout=SOON_S)
    finally:
        over = True
        await asyncio.gather(*hammering)
        for client in channels:
            await client.close()
        for server in servers:
            await server.stop(0)
    assert (failures, answered > 1000) == ([], True)


async def test_a_stopping_server_answers_what_runs_and_tells_what_outlasts_its_grace() -> None:
    async with serving() as served, channel(served) as client:
        running = [asyncio.create_task(outcome(client.unary_unary("/s/Wait")(b""))) for _ in range(3)]
        await served.until("waiting", 3)
        assert served.server is not None
        stopping = asyncio.create_task(served.server.stop(SOON_S))
        await asyncio.sleep(0)
        served.gate.set()
        assert await asyncio.gather(*running) == [CODE.OK] * 3
        await asyncio.wait_for(stopping, SOON_S)
    async with serving() as served, channel(served) as client:
        late = asyncio.create_task(outcome(client.unary_unary("/s/Wait")(b"")))
        await served.until("waiting")
        assert served.server is not None
        await served.server.stop(0.1)
        assert await late is CODE.UNAVAILABLE
        await served.until("cancelled")


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:5], frames.PREFACE])
async def test_a_client_that_never_began_does_not_hold_the_stop_up(said: bytes) -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(said)
        await reader.readexactly(frames.HEAD_BYTES)
        assert served.server is not None
        began_s = time.monotonic()
        await served.server.stop(SOON_S)
        assert time.monotonic() < began_s + 2.5
        goaway = frames.goaway(0, ErrorCode.NO_ERROR)
        async with asyncio.timeout(SOON_S):
            assert (await reader.read()).endswith(goaway), "what is on its way to us can be sent elsewhere"
        writer.close()


async def test_a_client_that_hears_nothing_holds_the_stop_up_for_little() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(frames.PREFACE + frames.settings({}))
        assert [frame async for frame in until(reader, frames.SETTINGS)]
        assert [frame async for frame in until(reader, frames.SETTINGS)], "ours, and that ours came"
        assert served.server is not None
        began_s = time.monotonic()
        await served.server.stop(SOON_S)
        assert time.monotonic() < began_s + 4.5
        writer.close()


async def test_requests_that_cross_the_first_goaway_are_answered_and_later_ones_can_be_sent_elsewhere() -> None:
    block = encode([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/Echo"), (b"content-type", GRPC)])

    def call(stream_id: int) -> bytes:
        body = framed(b"x")
        data = frames.head(len(body), frames.DATA, frames.END_STREAM, stream_id) + body
        return frames.header_frames(stream_id, block, False, 16_384) + data

    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(frames.PREFACE + frames.settings({}) + call(1))
        await served.until("echo")
        assert served.server is not None
        stopping = asyncio.create_task(served.server.stop(SOON_S))
        found = [frame async for frame in until(reader, frames.PING)]
        (goaway,) = (payload for kind, _, payload in found if kind == frames.GOAWAY)
        assert frames.WORD.unpack_from(goaway)[0] == 2**31 - 1
        # This one was sent before the client heard; and it answers the ping behind it.
        writer.write(call(3) + frames.ping(found[-1][2], ack=True) + call(5))
        found = [frame async for frame in until(reader, None)]
        assert [frames.WORD.unpack_from(payload)[0] for kind, _, payload in found if kind == frames.GOAWAY] == [3]
        assert {stream for kind, stream, _ in found if kind == frames.DATA} == {3}
        assert (frames.RST_STREAM, 5, frames.WORD.pack(ErrorCode.REFUSED_STREAM)) in found
        writer.close()
        await asyncio.wait_for(stopping, SOON_S)
        assert served.counts["echo"] == 2


async def until(reader: asyncio.StreamReader, last: int | None) -> AsyncIterator[tuple[int, int, bytes]]:
    """Frames as type, stream, payload: to the first of type ``last``, else to the end of the connection."""
    async with asyncio.timeout(SOON_S):
        while head := await reader.read(frames.HEAD_BYTES):
            high, low, kind, _, stream = frames.HEAD.unpack(head)
            yield kind, stream, await reader.readexactly(high << 8 | low)
            if kind == last:
                return


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> TlsPort:
    pair = authority.server()
    return ServerTls(TlsFiles(pair.certificate, pair.key)).port(Speaks.GRPC)


async def test_calls_go_over_tls(tls: TlsPort, authority: Authority) -> None:
    credentials = grpc.ssl_channel_credentials(authority.pem)
    async with (
        serving(tls=tls) as served,
        grpc.aio.secure_channel(f"127.0.0.1:{served.port}", credentials) as client,
    ):
        data = bytes(range(256)) * 20_000
        call = client.unary_unary("/s/Grow")
        assert len(await call(b"3000000", timeout=SOON_S)) == 3_000_000
        stream = client.stream_stream("/s/Echoes")(iter([data[:3_000_000], b"x"]), timeout=SOON_S)
        assert [len(message) async for message in stream] == [3_000_000, 1]
        waiting = asyncio.create_task(outcome(client.unary_unary("/s/Wait")(b"")))
        await served.until("waiting")
        assert served.server is not None
        stopping = asyncio.create_task(served.server.stop(SOON_S))
        served.gate.set()
        assert await waiting is CODE.OK
        await asyncio.wait_for(stopping, SOON_S)


@pytest.mark.parametrize("protocols", [["http/1.1"], []], ids=["another protocol", "no protocol"])
async def test_a_client_that_did_not_agree_on_http_2_is_closed(
    tls: TlsPort, authority: Authority, protocols: list[str]
) -> None:
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(protocols)
    async with serving(tls=tls) as served:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await first_word(served.port, context)


async def first_word(port: int, context: ssl.SSLContext) -> bytes:
    """What a server says over TLS before it is asked anything. Raises ConnectionError where it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        async with asyncio.timeout(SOON_S):
            if not (said := await reader.read(100)):
                raise ConnectionResetError("closed without a word")
            return said
    finally:
        writer.close()
