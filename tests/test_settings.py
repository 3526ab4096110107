import pytest
from pydantic import ValidationError

from ortolan.errors import StartupError
from ortolan.settings import Settings, flag_of, likely_misspelt, read_settings

# field, text, value: every setting as it is written in a flag or in the environment
TEXTS = [
    ("model_repository", "/a, /b,", ("/a", "/b")),
    ("download_directory", "/var/models", "/var/models"),
    ("download_concurrency", "16", 16),
    ("model_name", " digits ", "digits"),
    ("model_control_mode", "poll", "poll"),
    ("load_model", "", ()),
    ("repository_poll_secs", "0.5", 0.5),
    ("repository_quiet_secs", "2", 2.0),
    ("model_namespacing", "true", True),
    ("disable_auto_complete_config", "true", True),
    ("model_config_name", "small", "small"),
    ("default_max_batch_size", "0", 0),
    ("strict_readiness", "false", False),
    ("exit_on_error", "0", False),
    ("model_repository_wait_secs", "60", 60.0),
    ("listen_when_loaded", "true", True),
    ("exit_timeout_secs", "0", 0.0),
    ("drain_delay_secs", "12.5", 12.5),
    ("model_memory_budget", "60%", "60%"),
    ("memory_limit", "8GiB", "8GiB"),
    ("load_on_demand", "true", True),
    ("load_on_demand_wait_secs", "5", 5.0),
    ("pin_model", "a, b", ("a", "b")),
    ("model_idle_secs", "0", 0.0),
    ("arena_idle_secs", "0", 0.0),
    ("processes", "1", 1),
    ("model_load_thread_count", "2", 2),
    ("device", "cpu", "cpu"),
    ("intra_op_threads", "8", 8),
    ("fallback", "allow", "allow"),
    ("max_queue_size", "10", 10),
    ("max_queue_bytes", "1000000", 1_000_000),
    ("max_execution_secs", "2.5", 2.5),
    ("rate_limit", "execution_count", "execution_count"),
    ("rate_limit_resource", "R1:4, R2:1:0", ("R1:4", "R2:1:0")),
    ("calibration_cache", "none", "none"),
    ("compiled_cache_directory", "off", "off"),
    ("compiled_cache_size", "1000000", 1_000_000),
    ("tensorrt_cache_directory", "off", "off"),
    ("model_copy_directory", "/mnt/copies", "/mnt/copies"),
    ("external_data_hard_links", "refuse", "refuse"),
    ("model_manifest", "require", "require"),
    ("golden_requests", "off", "off"),
    ("model_signature", "off", "off"),
    ("model_signature_key", "a,b", ("a", "b")),
    ("model_signature_certificate", "a", ("a",)),
    ("model_signature_identity", "", ""),
    ("model_signature_issuer", "", ""),
    ("model_signature_trust", "", ""),
    ("model_key_file", "/run/old, /run/new", ("/run/old", "/run/new")),
    ("server_timing", "on", True),
    ("id", "server 7", "server 7"),
    ("allow_http", "no", False),
    ("http_address", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - parsed, not bound
    ("http_port", "0", 0),
    ("http_max_input_size", "1000", 1000),
    ("http_max_json_size", "1000", 1000),
    ("http_header_timeout_secs", "2.5", 2.5),
    ("http_body_timeout_secs", "2.5", 2.5),
    ("http_write_timeout_secs", "2.5", 2.5),
    ("http_allowed_host", "a.example,*.b.example", ("a.example", "*.b.example")),
    ("http_header_forward_pattern", "X-Trace-.*", "X-Trace-.*"),
    (
        "http_restricted_api",
        "model-repository,logging:admin=a b; trace:t=1",
        ("model-repository,logging:admin=a b", "trace:t=1"),
    ),
    ("api_keys_file", "keys", "keys"),
    ("admin_operations", "open", "open"),
    ("jwt_issuer", "https://i.example", "https://i.example"),
    ("jwt_audience", "a", "a"),
    ("jwt_keys", "", ""),
    ("jwt_algorithms", " RS256,ES256,EdDSA ", "RS256,ES256,EdDSA"),
    ("jwt_scope_claim", "scope", "scope"),
    ("jwt_scope_prefix", "ortolan:", "ortolan:"),
    ("jwt_default_scopes", "infer,read", "infer,read"),
    ("jwt_name_claim", "sub", "sub"),
    ("tls_certificate", "c", "c"),
    ("tls_key", "k", "k"),
    ("tls_client_ca", "a", "a"),
    ("tls_client_certificates", "required", "required"),
    ("tls_client_scopes", "none", "none"),
    ("grpc_use_ssl", "false", False),
    ("grpc_use_ssl_mutual", "false", False),
    ("grpc_server_cert", "c", "c"),
    ("grpc_server_key", "k", "k"),
    ("grpc_root_cert", "a", "a"),
    ("allow_grpc", "off", False),
    ("grpc_address", "::", "::"),
    ("grpc_port", "65535", 65535),
    ("grpc_header_forward_pattern", "^x-", "^x-"),
    ("grpc_restricted_protocol", "inference:k=v", ("inference:k=v",)),
    ("grpc_transport", "grpcio", "grpcio"),
    ("grpc_infer_response_compression_level", "high", "high"),
    ("grpc_keepalive_time", "1000", 1000),
    ("grpc_keepalive_timeout", "2000", 2000),
    ("grpc_keepalive_permit_without_calls", "true", True),
    ("grpc_http2_max_pings_without_data", "0", 0),
    ("grpc_http2_min_recv_ping_interval_without_data", "10", 10),
    ("grpc_http2_max_ping_strikes", "5", 5),
    ("grpc_max_connection_age", "60000", 60_000),
    ("grpc_max_connection_age_grace", "5000", 5000),
    ("allow_client_shm", "true", True),
    ("allow_metrics", "False", False),
    ("metrics_address", "10.0.0.1", "10.0.0.1"),
    ("metrics_port", "9000", 9000),
    ("allow_gpu_metrics", "false", False),
    ("allow_cpu_metrics", "off", False),
    ("metrics_interval_ms", "500", 500),
    ("metrics_config", "a=1; summary_quantiles=0.5:0.05,0.9:0.01", ("a=1", "summary_quantiles=0.5:0.05,0.9:0.01")),
    ("log_verbose", "1", 1),
    ("log_info", "false", False),
    ("log_warning", "0", False),
    ("log_error", "off", False),
    ("log_file", "/var/log/o.log", "/var/log/o.log"),
    ("log_format", "json", "json"),
    ("access_log", "errors", "errors"),
    ("access_log_file", "a.log", "a.log"),
    ("trace_config", "level=TIMESTAMPS; triton,file=/t", ("level=TIMESTAMPS", "triton,file=/t")),
    ("cache_config", "local,size=1000000", ("local,size=1000000",)),
    ("response_cache_byte_size", "1000000", 1_000_000),
    ("hosting", "none", "none"),
    ("allow_sagemaker", "true", True),
    ("sagemaker_default_model", "digits", "digits"),
    ("sagemaker_inference_type", "generate", "generate"),
    ("sagemaker_ping_mode", "live", "live"),
    ("sagemaker_multi_model", "true", True),
    ("sagemaker_models_directory", "/models", "/models"),
    ("allow_vertex_ai", "true", True),
    ("vertex_ai_predict_route", "/p", "/p"),
    ("vertex_ai_health_route", "/h", "/h"),
    ("vertex_ai_default_model", "digits", "digits"),
]


_TOKENS = {"jwt_issuer": "https://i.example", "jwt_audience": "a"}
_TLS = {"tls_certificate": "c", "tls_key": "k"}
_GRPC_TLS = {"grpc_use_ssl": "true", "grpc_server_cert": "c", "grpc_server_key": "k"}
TOGETHER: dict[str, dict[str, str]] = {
    **dict.fromkeys(_TOKENS, _TOKENS),
    **dict.fromkeys((*_TLS, "tls_client_ca"), _TLS),
    **dict.fromkeys(("grpc_server_cert", "grpc_server_key"), _GRPC_TLS),
    "grpc_root_cert": {**_GRPC_TLS, "grpc_use_ssl_mutual": "true"},
    "model_signature_key": {"model_signature": "check"},
    "sagemaker_multi_model": {"allow_sagemaker": "true", "model_control_mode": "explicit"},
    "model_signature_certificate": {"model_signature": "check"},
}
"""What is of use together only."""


def test_the_table_has_every_setting() -> None:
    assert [field for field, _, _ in TEXTS] == [*Settings.model_fields]


@pytest.mark.parametrize(("field", "text", "value"), TEXTS)
def test_every_setting_is_a_flag_and_an_environment_variable(field: str, text: str, value: object) -> None:
    others = {name: given for name, given in TOGETHER.get(field, {}).items() if name != field}
    assert getattr(read_settings({field: text, **others}, {}), field) == value
    assert getattr(read_settings(others, {f"ORTOLAN_{field.upper()}": text}), field) == value


@pytest.mark.parametrize("field", ["api_keys_file", "tls_certificate", "tls_client_ca", "jwt_issuer", "model_key_file"])
def test_what_guards_is_not_left_out_because_a_variable_was_empty(field: str) -> None:
    for flags, environment in (({field: " "}, {}), ({}, {f"ORTOLAN_{field.upper()}": ""})):
        with pytest.raises(StartupError, match=f"{flag_of(field)} .*is given and empty"):
            read_settings(flags, environment)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_says_what_it_is(field: str) -> None:
    assert str(Settings.model_fields[field].description).endswith(".")
    assert flag_of(field).startswith("--")


def test_the_defaults_are_tritons_but_for_the_addresses() -> None:
    settings = read_settings({}, {})
    assert (settings.http_port, settings.grpc_port, settings.metrics_port) == (8000, 8001, 8002)
    assert (settings.model_control_mode, settings.repository_poll_secs) == ("none", 15)
    assert (settings.strict_readiness, settings.exit_on_error, settings.exit_timeout_secs) == (True, True, 25)
    assert (settings.http_max_input_size, settings.http_max_json_size) == (64 * 2**20, 16 * 2**20)
    assert {settings.http_address, settings.grpc_address, settings.metrics_host} == {"127.0.0.1"}


def test_flags_beat_the_environment() -> None:
    environment = {"ORTOLAN_HTTP_PORT": "1", "ORTOLAN_GRPC_PORT": "2"}
    settings = read_settings({"http_port": "3"}, environment)
    assert (settings.http_port, settings.grpc_port) == (3, 2)


def test_a_wrong_variable_that_a_flag_overrules_does_no_harm() -> None:
    assert read_settings({"http_port": "3"}, {"ORTOLAN_HTTP_PORT": "nonsense"}).http_port == 3


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert read_settings({}, {"ORTOLAN_HTTP_PORT": ""}).http_port == 8000


@pytest.mark.parametrize("given", [[""], ["", " "], "", " , "])
def test_an_empty_path_is_no_path_and_not_the_current_directory(given: object) -> None:
    assert read_settings({"model_repository": given}, {}).model_repository == ()


def test_a_path_may_have_commas_in_a_flag() -> None:
    assert read_settings({"model_repository": ["/a,b"]}, {}).model_repository == ("/a,b",)


@pytest.mark.parametrize("address", ["s3://https://host:9000/b/p", "https://host/a.onnx#sha256=00", "a//b"])
def test_an_address_keeps_every_slash(address: str) -> None:
    assert read_settings({"model_repository": [address]}, {}).model_repository == (address,)
    assert read_settings({}, {"ORTOLAN_MODEL_REPOSITORY": address}).model_repository == (address,)


def test_variables_of_others_are_left_alone() -> None:
    environment = {"HTTP_PORT": "1", "ORTOLAN_SERVICE_PORT": "2", "ortolan_http_port": "3"}
    assert read_settings({}, environment) == read_settings({}, {})


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("http_port", "http", "valid integer"),
        ("http_port", "-1", "greater than or equal to 0"),
        ("grpc_port", "65536", "less than or equal to 65535"),
        ("metrics_port", "8.5", "valid integer"),
        ("model_control_mode", "Explicit", "'none', 'poll' or 'explicit'"),
        ("repository_poll_secs", "0", "greater than 0"),
        ("drain_delay_secs", "-1", "greater than or equal to 0"),
        ("drain_delay_secs", "soon", "valid number"),
        ("exit_timeout_secs", "nan", "Input should be"),
        ("exit_timeout_secs", "inf", "less than or equal to 86400"),
        ("strict_readiness", "maybe", "valid boolean"),
        ("default_max_batch_size", "-1", "greater than or equal to 0"),
        ("max_queue_size", "0", "greater than or equal to 1"),
        ("intra_op_threads", "0", "greater than or equal to 1"),
        ("http_max_input_size", "64M", "valid integer"),
        ("http_max_json_size", "0", "greater than or equal to 1"),
        ("http_header_timeout_secs", "0", "greater than 0"),
        ("http_write_timeout_secs", "inf", "less than or equal to 86400"),
        ("device", "gpu9", "'cuda'"),
        ("fallback", "yes", "'forbid' or 'allow'"),
        ("log_format", "xml", "'text', 'json', 'default' or 'ISO8601'"),
        ("log_verbose", "-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_flag_its_variable_and_what_came(field: str, text: str, said: str) -> None:
    for flags, environment in (({field: text}, {}), ({}, {f"ORTOLAN_{field.upper()}": text})):
        with pytest.raises(StartupError) as refused:
            read_settings(flags, environment)
        for part in (flag_of(field), f"ORTOLAN_{field.upper()}", said, repr(text)):
            assert part in str(refused.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(StartupError, match=r"(?s)--http-port.*--log-format"):
        read_settings({"http_port": "x", "log_format": "y"}, {})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"load_model": ["a"]}, "--load-model needs --model-control-mode=explicit"),
        ({"model_signature": "require"}, "--model-signature=require needs to know who may sign: --model-signature-key"),
        ({"model_signature_key": ["k.pub"]}, "signers of models are named: say --model-signature=require, or check"),
        (
            {"model_signature": "check", "model_signature_issuer": "https://i"},
            "--model-signature-identity, --model-sig",
        ),
        ({"load_model": ["*", "a"], "model_control_mode": "explicit"}, "--load-model=* must be the only"),
        ({"model_idle_secs": "5"}, "--model-idle-secs needs --load-on-demand"),
        ({"memory_limit": "8 parsec"}, "--memory-limit expects bytes such as 8GiB"),
        ({"model_memory_budget": "8 parsec"}, "--model-memory-budget expects bytes such as 8GiB"),
        ({"allow_http": "false", "allow_grpc": "false"}, "at least one of --allow-http and --allow-grpc"),
        (
            {"http_port": "80", "grpc_port": "80", "grpc_address": "::"},
            "--http-port=80 and --grpc-port=80 ask for one port for both, but --http-address=127.0.0.1 and "
            "--grpc-address=:: are not the same; give both the same address, or different ports",
        ),
        (
            {"http_port": "80", "grpc_port": "80", "grpc_transport": "grpcio"},
            "--http-port=80 and --grpc-port=80 ask for one port for both, which --grpc-transport=grpcio cannot share; ",
        ),
        ({"metrics_port": "8000"}, "--metrics-port=8000 is the port for HTTP already; give metrics another one, 0 for"),
        ({"metrics_port": "8001"}, "--metrics-port=8001 is the port for gRPC already; "),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, object], said: str) -> None:
    with pytest.raises(StartupError) as refused:
        read_settings(flags, {})
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("given", "one_port"),
    [
        ({}, False),
        ({"http_port": "80", "grpc_port": "80"}, True),
        ({"http_port": "0", "grpc_port": "0"}, False),  # two free ports
        ({"http_port": "80", "grpc_port": "80", "allow_grpc": "false", "grpc_address": "::"}, False),
        ({"http_port": "80", "grpc_port": "80", "allow_http": "false", "grpc_transport": "grpcio"}, False),
        ({"metrics_port": "8000", "metrics_address": "10.0.0.1"}, False),
        ({"metrics_port": "8000", "allow_metrics": "false"}, False),
    ],
)
def test_http_and_grpc_share_a_port_where_both_name_it(given: dict[str, object], one_port: bool) -> None:
    assert read_settings(given, {}).one_port is one_port


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({}, "127.0.0.1"),
        ({"http_address": "10.0.0.1"}, "10.0.0.1"),
        ({"http_address": "10.0.0.1", "metrics_address": "127.0.0.1"}, "127.0.0.1"),
    ],
)
def test_metrics_are_where_http_is_unless_told_otherwise(given: dict[str, object], host: str) -> None:
    assert read_settings(given, {}).metrics_host == host


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        read_settings({}, {}).http_port = 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ORTOLAN_HTTP_PROT", "ORTOLAN_HTTP_PORT"),
        ("ORTOLAN_MODEL_REPOSITRY", "ORTOLAN_MODEL_REPOSITORY"),
        ("ORTOLAN_DRAIN_DELAY_SEC", "ORTOLAN_DRAIN_DELAY_SECS"),
        ("ORTOLAN_HTTP_PORT", None),
        ("ORTOLAN_PORT", None),  # Kubernetes sets these for a service called ortolan
        ("ORTOLAN_SERVICE_PORT", None),
        ("ORTOLAN_PORT_8000_TCP_ADDR", None),
        ("ORTOLAN_SERVICE_PORT_HTTP", None),
        ("ORTOLAN_SERVICE_PORT_GRPC", None),
        ("HTTP_PROT", None),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours_gets_a_word(name: str, meant: str | None) -> None:
    sentences = likely_misspelt({name: "1"})
    expected = f"the environment variable {name} has no effect; did you mean {meant}?"
    assert sentences == ([expected] if meant else [])
