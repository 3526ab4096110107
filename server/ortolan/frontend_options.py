"""What the frontends need of the settings, in their own words."""

from ortolan.frontends.grpc.options import GrpcOptions, KeepAlive
from ortolan.frontends.header_forwarding import HeaderForwarding
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.frontends.restriction import grpc_restrictions, http_restrictions
from ortolan.settings import Settings


def rest_options(settings: Settings) -> RestOptions:
    """Raises StartupError for restrictions or patterns that are not of their form."""
    restrictions = http_restrictions(settings.http_restricted_api)
    pattern, flag = settings.http_header_forward_pattern, "--http-header-forward-pattern"
    return RestOptions(
        max_body_bytes=settings.http_max_input_size,
        restrictions=restrictions,
        forwarding=HeaderForwarding(pattern, flag, restrictions.headers),
        held_bytes=_held_bytes(settings),
    )


def grpc_options(settings: Settings) -> GrpcOptions:
    """Raises as ``rest_options`` does."""
    restrictions = grpc_restrictions(settings.grpc_restricted_protocol)
    pattern, flag = settings.grpc_header_forward_pattern, "--grpc-header-forward-pattern"
    return GrpcOptions(
        max_message_bytes=settings.http_max_input_size,
        held_bytes=_held_bytes(settings),
        timing=settings.server_timing,
        compression=settings.grpc_infer_response_compression_level,
        shared_port=settings.processes > 1,
        restrictions=restrictions,
        forwarding=HeaderForwarding(pattern, flag, restrictions.headers),
        keep_alive=KeepAlive(
            time_ms=settings.grpc_keepalive_time,
            timeout_ms=settings.grpc_keepalive_timeout,
            permit_without_calls=settings.grpc_keepalive_permit_without_calls,
            max_pings_without_data=settings.grpc_http2_max_pings_without_data,
            min_recv_ping_interval_ms=settings.grpc_http2_min_recv_ping_interval_without_data,
            max_ping_strikes=settings.grpc_http2_max_ping_strikes,
            max_connection_age_ms=settings.grpc_max_connection_age,
            max_connection_age_grace_ms=settings.grpc_max_connection_age_grace,
        ),
    )


def _held_bytes(settings: Settings) -> int:
    """What a port may hold for clients that do not send the rest of a request, or do not take an answer."""
    return max(settings.max_queue_bytes, 2 * settings.http_max_input_size)
