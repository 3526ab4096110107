"""A gRPC port in this process, with methods that only tests have; and a client that speaks HTTP/2 by hand."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.methods import MethodName, Methods, StreamRpc, UnaryRpc
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.tls.server_tls import TlsPort

MIB = 1 << 20
SOON_S = 20.0
Transport = Http2Server | GrpcioServer


@dataclass
class Served:
    """What became of the calls."""

    counts: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    server: Transport | None = None

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.port

    def note(self, what: str) -> None:
        self.counts[what] += 1
        self.changed.set()

    async def until(self, what: str, count: int = 1) -> None:
        async with asyncio.timeout(SOON_S):
            while self.counts[what] < count:
                self.changed.clear()
                await self.changed.wait()

    async def echo(self, data: bytes, call: Call) -> bytes:  # noqa: ARG002
        self.note("echo")
        return data

    async def wait(self, data: bytes, call: Call) -> bytes:  # noqa: ARG002
        """Answer when the gate opens."""
        self.note("waiting")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.note("cancelled")
            raise
        return data

    async def grow(self, data: bytes, call: Call) -> bytes:  # noqa: ARG002
        self.note("grow")
        return bytes(int(data))

    async def echoes(self, requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        self.note("stream")
        try:
            async for data in requests:
                yield data
            self.note("stream read")
        finally:
            self.note("stream ended")

    def methods(self, options: GrpcOptions) -> Methods:
        unary = {"Echo": self.echo, "Wait": self.wait, "Grow": self.grow}
        rpcs = [UnaryRpc(MethodName("s", name, OPERATIONS["ModelInfer"]), method) for name, method in unary.items()]
        stream = StreamRpc(MethodName("s", "Echoes", OPERATIONS["ModelInfer"]), self.echoes)
        return Methods([*rpcs, stream], options, lambda: None)


@asynccontextmanager
async def serving(
    options: GrpcOptions | None = None, transport: type[Transport] = Http2Server, tls: TlsPort | None = None
) -> AsyncIterator[Served]:
    served = Served()
    options = options or GrpcOptions(max_message_bytes=16 * MIB)
    methods = served.methods(options)
    if transport is Http2Server:
        served.server = Http2Server(methods, "127.0.0.1", 0, options, tls)
    else:
        served.server = transport(methods, "127.0.0.1", 0, options)
    await served.server.start()
    try:
        yield served
    finally:
        served.gate.set()
        await served.server.stop(0)


class HandClient:
    """One connection by h2, which does what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytes] = {}
        self.informed: dict[int, str] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.reading = True

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator["HandClient"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            writer.close()

    def call(self, method: str, *messages: bytes, end: bool = True, **more: str) -> int:
        """Begin a call; the bytes go with ``flush``."""
        stream = self.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": f"/s/{method}", ":authority": "x", "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | {name.replace("_", "-"): value for name, value in more.items()}
        self.h2.send_headers(stream, list(fields.items()), end_stream=end and not messages)
        for message in messages:
            self.h2.send_data(stream, framed(message), end_stream=end and message is messages[-1])
        return stream

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        async with asyncio.timeout(SOON_S):
            await self.writer.drain()

    async def receive(self) -> bool:
        """What comes next. Returns whether the connection goes on."""
        await self.flush()
        async with asyncio.timeout(SOON_S):
            data = await self._reader.read(1 << 16)
        for event in self.h2.receive_data(data) if data else ():
            self._note(event)
        if data:
            await self.flush()
        return bool(data)

    async def until_ended(self, *streams: int) -> None:
        while not self.ended.issuperset(streams):
            assert await self.receive(), "the connection is closed"

    def status(self, stream: int) -> int:
        return int(self.headers[stream]["grpc-status"])

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self.headers.setdefault(event.stream_id, {}).update(event.headers)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.informed[event.stream_id] = dict(event.headers)[":status"]
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            if self.reading:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event)


def framed(message: bytes) -> bytes:
    return struct.pack(">BL", 0, len(message)) + message
