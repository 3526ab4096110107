import pytest

from ortolan.errors import StartupError
from ortolan.frontend_options import grpc_options, rest_options
from ortolan.frontends.access.access import Access
from ortolan.frontends.grpc.options import COMPRESSION_LEVELS, channel_options
from ortolan.settings import Settings

# setting, value, grpcio's option
OPTIONS = [
    ("http_max_input_size", 1000, "grpc.max_receive_message_length"),
    ("grpc_keepalive_time", 1, "grpc.keepalive_time_ms"),
    ("grpc_keepalive_timeout", 2, "grpc.keepalive_timeout_ms"),
    ("grpc_keepalive_permit_without_calls", True, "grpc.keepalive_permit_without_calls"),
    ("grpc_http2_max_pings_without_data", 3, "grpc.http2.max_pings_without_data"),
    ("grpc_http2_min_recv_ping_interval_without_data", 4, "grpc.http2.min_ping_interval_without_data_ms"),
    ("grpc_http2_max_ping_strikes", 5, "grpc.http2.max_ping_strikes"),
    ("grpc_max_connection_age", 6, "grpc.max_connection_age_ms"),
]


@pytest.mark.parametrize(("field", "value", "option"), OPTIONS)
def test_a_setting_reaches_grpcio(field: str, value: object, option: str) -> None:
    settings = Settings.model_validate({field: value})
    assert dict(channel_options(grpc_options(settings, Access(None))))[option] == value


def test_an_age_of_zero_is_none() -> None:
    chosen = dict(channel_options(grpc_options(Settings(grpc_max_connection_age_grace=5), Access(None))))
    assert not [name for name in chosen if "connection_age" in name]


def test_the_grace_goes_with_an_age() -> None:
    settings = Settings(grpc_max_connection_age=10, grpc_max_connection_age_grace=5)
    assert dict(channel_options(grpc_options(settings, Access(None))))["grpc.max_connection_age_grace_ms"] == 5


@pytest.mark.parametrize("level", COMPRESSION_LEVELS)
def test_every_level_of_compression_can_be_set(level: str) -> None:
    settings = Settings.model_validate({"grpc_infer_response_compression_level": level})
    assert grpc_options(settings, Access(None)).compression == level


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("http_restricted_api", ["nobody:k=v"], "--http-restricted-api: unknown category"),
        ("http_header_forward_pattern", "(", "--http-header-forward-pattern: "),
        ("http_allowed_host", ["a.example:80"], "--http-allowed-host expects a name"),
        ("grpc_restricted_protocol", ["health"], "--grpc-restricted-protocol: expected"),
        ("grpc_header_forward_pattern", "(", "--grpc-header-forward-pattern: "),
    ],
)
def test_what_cannot_be_honoured_ends_the_start_by_its_flag(field: str, value: object, why: str) -> None:
    settings = Settings.model_validate({field: value})
    with pytest.raises(StartupError, match=why):
        rest_options(settings, Access(None)) if field.startswith("http") else grpc_options(settings, Access(None))
