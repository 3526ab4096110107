"""What the operator chose for the gRPC frontend, and how grpcio is told."""

from dataclasses import dataclass, field
from typing import Any

import grpc

from ortolan.frontends.access.access import Access
from ortolan.frontends.header_forwarding import NO_FORWARDING, HeaderForwarding
from ortolan.frontends.restriction import NO_RESTRICTIONS, Restrictions
from ortolan.http2.limits import Http2Limits

# grpcio itself cancels bursts above about a thousand calls, without a reason; our queues refuse with one.
_MOST_PENDING_CALLS = 100_000
# As our own transport has it.
_MOST_METADATA_BYTES = Http2Limits().header_list_bytes

# As gRPC's core chooses between what nearly every client takes.
COMPRESSION_LEVELS = {
    "none": None,
    "low": grpc.Compression.Gzip,
    "medium": grpc.Compression.Deflate,
    "high": grpc.Compression.Deflate,
}
COMPRESSION_ENCODINGS = {"none": None, "low": "gzip", "medium": "deflate", "high": "deflate"}
"""The same as names of encodings."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """HTTP/2 pings and the age of connections; durations in milliseconds, ages of 0 are none. Triton's defaults."""

    time_ms: int = 7_200_000
    timeout_ms: int = 20_000
    permit_without_calls: bool = False
    max_pings_without_data: int = 2
    min_recv_ping_interval_ms: int = 300_000
    max_ping_strikes: int = 2
    max_connection_age_ms: int = 0
    max_connection_age_grace_ms: int = 0


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """``timing``: whether each inference tells where its time went. ``compression``: one of ``COMPRESSION_LEVELS``.

    ``held_bytes``: what may wait for the rest of requests, and for clients to take their answers; our transport only.
    """

    max_message_bytes: int
    held_bytes: int = 1 << 30
    timing: bool = False
    compression: str = "none"
    restrictions: Restrictions = NO_RESTRICTIONS
    forwarding: HeaderForwarding = NO_FORWARDING
    keep_alive: KeepAlive = field(default_factory=KeepAlive)
    shared_port: bool = False
    """Whether other processes may listen on the port as well."""
    access: Access = field(default_factory=lambda: Access(None))


def channel_options(options: GrpcOptions) -> list[tuple[str, Any]]:
    """The options of grpcio's server."""
    alive = options.keep_alive
    chosen = [
        # Without this a second server would share the port in silence.
        ("grpc.so_reuseport", int(options.shared_port)),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Without these it refuses some calls from half of that on, at random, so that clients notice in time.
        ("grpc.max_metadata_size", _MOST_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MOST_METADATA_BYTES),
        ("grpc.server.max_pending_requests", _MOST_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING_CALLS),
        ("grpc.keepalive_time_ms", alive.time_ms),
        ("grpc.keepalive_timeout_ms", alive.timeout_ms),
        ("grpc.keepalive_permit_without_calls", int(alive.permit_without_calls)),
        ("grpc.http2.max_pings_without_data", alive.max_pings_without_data),
        ("grpc.http2.min_ping_interval_without_data_ms", alive.min_recv_ping_interval_ms),
        ("grpc.http2.max_ping_strikes", alive.max_ping_strikes),
    ]
    if alive.max_connection_age_ms:
        chosen.append(("grpc.max_connection_age_ms", alive.max_connection_age_ms))
        if alive.max_connection_age_grace_ms:
            chosen.append(("grpc.max_connection_age_grace_ms", alive.max_connection_age_grace_ms))
    return chosen
