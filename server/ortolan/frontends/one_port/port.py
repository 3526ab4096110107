"""One port for REST and gRPC: uvicorn accepts its connections, and those that speak HTTP/2 are the gRPC transport's."""

import asyncio
from functools import partial
from typing import cast

from ortolan.frontends.grpc.http2_server import Http2Connections
from ortolan.frontends.grpc.methods import Methods
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.one_port.first_words import FirstWords
from ortolan.frontends.one_port.rest_exchange import RestRequests
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.http_connection import HttpService


class OnePort:
    """What the server of a gRPC port is, for one that an HTTP server listens on."""

    def __init__(self, port: int, app: RestApp, methods: Methods, options: GrpcOptions) -> None:
        self.port = port
        self._http1 = HttpService(app).protocol
        self._opening_s = app.rest_options.limits.head_s
        others = RestRequests(app, app.rest_options.hosts, app.core.errors, app.core.access_log)
        self._http2 = Http2Connections(methods, options, others.head)
        self._undecided: set[FirstWords] = set()
        self._all_decided = asyncio.Event()

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn takes for the class of its connections."""
        return cast("type[asyncio.Protocol]", partial(FirstWords, self, self._http1, self._opening_s))

    @property
    def held_bytes(self) -> int:
        """As ``Http2Connections`` has it."""
        return self._http2.held_bytes

    async def start(self) -> None:
        """The HTTP server listens."""

    async def stop(self, grace_s: float) -> None:
        """End all connections that speak HTTP/2, and what is running there after ``grace_s``.

        The HTTP server must have stopped to listen.
        """
        for connection in [*self._undecided]:
            connection.shutdown()
        while self._undecided:
            self._all_decided.clear()
            await self._all_decided.wait()
        await self._http2.stop(grace_s)

    # What its connections ask and tell

    def new_http2(self) -> asyncio.Protocol:
        return self._http2.new()

    def undecided(self, connection: FirstWords) -> None:
        self._undecided.add(connection)

    def decided(self, connection: FirstWords) -> None:
        self._undecided.discard(connection)
        if not self._undecided:
            self._all_decided.set()
