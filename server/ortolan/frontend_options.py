"""What the frontends need of the settings, in their own words."""

from pathlib import Path

from ortolan.core.metrics_config import parse_metrics_config
from ortolan.frontends.access.access import CREDENTIAL_HEADERS, Access
from ortolan.frontends.grpc.options import GrpcOptions, KeepAlive
from ortolan.frontends.header_forwarding import HeaderForwarding
from ortolan.frontends.metrics import MetricsOptions
from ortolan.frontends.rest.hosts import AllowedHosts
from ortolan.frontends.rest.http_limits import HttpLimits
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.frontends.rest.platform_options import PlatformOptions, SageMakerOptions, VertexOptions
from ortolan.frontends.restriction import Restrictions, grpc_restrictions, http_restrictions
from ortolan.frontends.tls.tls_files import GRPC_TLS_FLAGS, TlsFiles
from ortolan.settings import Settings
from ortolan.settings.tls_rules import own_grpc_tls


def rest_options(settings: Settings, access: Access) -> RestOptions:
    """Raises StartupError for restrictions or patterns that are not of their form."""
    restrictions = http_restrictions(settings.http_restricted_api)
    pattern, flag = settings.http_header_forward_pattern, "--http-header-forward-pattern"
    return RestOptions(
        max_body_bytes=settings.http_max_input_size,
        max_json_bytes=settings.http_max_json_size,
        limits=http_limits(settings),
        hosts=AllowedHosts(settings.http_allowed_host),
        restrictions=restrictions,
        forwarding=HeaderForwarding(pattern, flag, _secrets(restrictions)),
        held_bytes=_held_bytes(settings),
        access=access,
        platforms=_platforms(settings),
    )


def _platforms(settings: Settings) -> PlatformOptions:
    s = settings
    sagemaker = SageMakerOptions(
        s.sagemaker_default_model,
        s.sagemaker_inference_type,
        s.sagemaker_ping_mode == "ready",
        s.sagemaker_multi_model,
    )
    vertex = VertexOptions(s.vertex_ai_predict_route, s.vertex_ai_health_route, s.vertex_ai_default_model)
    return PlatformOptions(sagemaker if s.allow_sagemaker else None, vertex if s.allow_vertex_ai else None)


def metrics_options(settings: Settings, visible_gpus: str | None) -> MetricsOptions:
    """``visible_gpus`` is CUDA_VISIBLE_DEVICES. Raises StartupError for a wrong ``--metrics-config``."""
    return MetricsOptions(
        config=parse_metrics_config(settings.metrics_config),
        interval_s=settings.metrics_interval_ms / 1000,
        cpu=settings.allow_cpu_metrics,
        gpu=settings.allow_gpu_metrics,
        visible_gpus=visible_gpus,
    )


def http_limits(settings: Settings) -> HttpLimits:
    """Those of one connection to a port that speaks HTTP/1."""
    return HttpLimits(
        head_s=settings.http_header_timeout_secs,
        pace_s=settings.http_body_timeout_secs,
        stalled_s=settings.http_write_timeout_secs,
    )


def grpc_options(settings: Settings, access: Access) -> GrpcOptions:
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
        forwarding=HeaderForwarding(pattern, flag, _secrets(restrictions)),
        access=access,
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


def http_tls(settings: Settings) -> TlsFiles | None:
    """The files of TLS over HTTP; None where HTTP is in the clear."""
    s = settings
    if not s.tls_certificate:
        return None
    client_ca = Path(s.tls_client_ca) if s.tls_client_ca else None
    is_optional = s.tls_client_certificates == "optional"
    return TlsFiles(Path(s.tls_certificate), Path(s.tls_key), client_ca, is_optional)


def grpc_tls(settings: Settings) -> TlsFiles | None:
    """The same over gRPC, where Triton's flags count more than those that are for both."""
    s = settings
    if not own_grpc_tls(s):
        return http_tls(s)
    client_ca = Path(s.grpc_root_cert) if s.grpc_use_ssl_mutual else None
    return TlsFiles(Path(s.grpc_server_cert), Path(s.grpc_server_key), client_ca, flags=GRPC_TLS_FLAGS)


def _secrets(restrictions: Restrictions) -> frozenset[str]:
    """The headers that are nobody's business further in."""
    return restrictions.headers | set(CREDENTIAL_HEADERS)


def _held_bytes(settings: Settings) -> int:
    """What a port may hold for clients that do not send the rest of a request, or do not take an answer."""
    return max(settings.max_queue_bytes, 2 * settings.http_max_input_size)
