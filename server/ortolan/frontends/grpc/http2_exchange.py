"""A request and its answer on one stream, as their connection sees them, whichever protocol they are of."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from ortolan.errors import OrtolanError
from ortolan.frontends.access.peer import Peer
from ortolan.http2.connection import Http2Connection
from ortolan.http2.header_blocks import HeaderList
from ortolan.http2.stream import Stream
from ortolan.protocol.grpc_framing import ByteCount

TOO_SLOW = "the request took too long to arrive"


class Exchange:
    """The owner of a stream. Lives on the event loop."""

    __slots__ = ()

    outlives_goaway = True
    """Whether its clients take the answer when they have been told meanwhile to begin no more requests here."""

    def feed(self, data: bytes | memoryview, ended: bool) -> None:
        """Data of the request came. Raises OrtolanError for what cannot be taken."""
        raise NotImplementedError

    def sent(self) -> None:
        """What was answered so far has left."""

    @property
    def held_bytes(self) -> int:
        """What waits here for the rest of the request, or for its turn."""
        raise NotImplementedError

    @property
    def is_within(self) -> bool:
        """Whether something has begun to come and not ended."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        raise NotImplementedError

    def fail(self, error: OrtolanError) -> None:
        """End it from outside."""
        raise NotImplementedError

    def look_at_the_clock(self, now_s: float) -> float:
        """End it where its deadline has passed, or its client sends too little of what it began.

        ``now_s`` is the event loop's time, as is what is returned: when to look again at the latest.
        """
        raise NotImplementedError


def outlives_goaway(stream: Stream) -> bool:
    return stream.owner is None or cast("Exchange", stream.owner).outlives_goaway


def held_by(stream: Stream) -> int:
    """How many bytes wait on the stream, in either direction."""
    exchange = cast("Exchange | None", stream.owner)
    return stream.unsent_bytes + (exchange.held_bytes if exchange is not None else 0)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A connection, for exchanges that are no gRPC calls.

    ``unfinished`` counts the bytes of requests that are not whole. ``flush`` is called when there is something to send,
    ``leave`` to ask the client to begin its next requests on another connection.
    """

    http2: Http2Connection
    unfinished: ByteCount
    flush: Callable[[], None]
    leave: Callable[[], None]
    transport: asyncio.Transport
    peer: Peer


class OtherHead(Protocol):
    """What the fields of a request say that is no gRPC call."""

    def begin(self, stream: Stream, carrier: Carrier) -> Exchange:
        """The exchange of one request with these fields."""


OtherRequests = Callable[[HeaderList], OtherHead]
