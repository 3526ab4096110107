import pytest

from ortolan.core.opentelemetry_config import OpenTelemetryOptions, is_disabled, opentelemetry_options
from ortolan.errors import StartupError

OWN = {"service.name": "ortolan", "service.instance.id": "random"}
URL = "http://localhost:4318/v1/traces"
Given = dict[str, list[str]]


def options(given: Given, replica: int = 0, **environment: str) -> OpenTelemetryOptions:
    return opentelemetry_options(given, environment, OWN, replica)


def test_without_a_word_spans_go_to_the_collector_on_this_machine_as_tritons_do() -> None:
    assert options({}) == OpenTelemetryOptions("http/protobuf", URL, OWN, 2048, 5000, 512)


@pytest.mark.parametrize(
    ("given", "environment", "protocol", "endpoint"),
    [
        ({"url": ["http://c:4318/v1/traces"]}, {}, "http/protobuf", "http://c:4318/v1/traces"),
        ({"url": ["http://a/x", "https://b/y"]}, {}, "http/protobuf", "https://b/y"),
        ({"url": ["c:4318/v1/traces"]}, {}, "http/protobuf", "http://c:4318/v1/traces"),  # as in Triton's documents
        ({}, {"ENDPOINT": "http://c:1"}, "http/protobuf", "http://c:1/v1/traces"),
        ({}, {"ENDPOINT": "http://c:1/x/"}, "http/protobuf", "http://c:1/x/v1/traces"),
        ({}, {"TRACES_ENDPOINT": "http://t/x", "ENDPOINT": "http://c"}, "http/protobuf", "http://t/x"),
        ({"url": ["http://f/x"]}, {"TRACES_ENDPOINT": "http://t"}, "http/protobuf", "http://f/x"),  # flags win
        ({}, {"PROTOCOL": "grpc"}, "grpc", "http://localhost:4317"),
        ({}, {"PROTOCOL": "grpc", "ENDPOINT": "http://c:4317"}, "grpc", "http://c:4317"),
        ({}, {"PROTOCOL": "grpc", "ENDPOINT": "https://c"}, "grpc", "https://c"),
        ({}, {"PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, "http/protobuf", URL),
        ({}, {"PROTOCOL": "", "ENDPOINT": " "}, "http/protobuf", URL),  # empty is not given
    ],
)
def test_the_receiver_is_the_flags_then_the_environments(
    given: Given, environment: dict[str, str], protocol: str, endpoint: str
) -> None:
    found = options(given, **{f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environment.items()})
    assert (found.protocol, found.endpoint) == (protocol, endpoint)


@pytest.mark.parametrize(
    ("given", "environment", "resource"),
    [
        ({"resource": ["service.name=a"]}, {}, {"service.name": "a"}),
        ({"resource": ["k=v", "l=a=b"]}, {}, {"k": "v", "l": "a=b"}),
        ({}, {"OTEL_SERVICE_NAME": "a"}, {"service.name": "a"}),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a, k = v%20w ,x,=y"}, {"service.name": "a", "k": "v w"}),
        (
            {},
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"},
            {"service.name": "b"},
        ),
        (
            {"resource": ["service.name=c"]},
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,k=v", "OTEL_SERVICE_NAME": "b"},
            {"service.name": "c", "k": "v"},
        ),
    ],
)
def test_the_resource_is_the_flags_over_the_environments_over_ours(
    given: Given, environment: dict[str, str], resource: dict[str, str]
) -> None:
    assert options(given, **environment).resource == OWN | resource


def test_what_the_exporters_read_themselves_is_left_to_them() -> None:
    environment = {"COMPRESSION": "gzip", "TRACES_COMPRESSION": "none", "TIMEOUT": "2.5", "HEADERS": "a=b"}
    found = options({}, **{f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environment.items()})
    assert found == options({})


def test_each_replica_is_an_instance_of_its_own_also_where_the_operator_names_the_server() -> None:
    assert options({}, 2).resource["service.instance.id"] == "random"  # which differs from process to process
    named = {"resource": ["service.instance.id=pod-7"]}
    assert options(named, 0).resource["service.instance.id"] == "pod-7"
    assert [options(named, replica).resource["service.instance.id"] for replica in (1, 2)] == ["pod-7.1", "pod-7.2"]


@pytest.mark.parametrize(
    ("given", "environment", "numbers"),
    [
        ({"bsp_max_queue_size": ["9"], "bsp_max_export_batch_size": ["3"]}, {}, (9, 5000, 3)),
        ({"bsp_schedule_delay": ["1", "2"]}, {}, (2048, 2, 512)),
        ({"bsp_max_queue_size": ["100"]}, {}, (100, 5000, 100)),  # a batch is no larger than the queue
        ({}, {"MAX_QUEUE_SIZE": "4096", "SCHEDULE_DELAY": "7", "MAX_EXPORT_BATCH_SIZE": "8"}, (4096, 7, 8)),
        ({"bsp_schedule_delay": ["3"]}, {"SCHEDULE_DELAY": "7"}, (2048, 3, 512)),
        ({}, {"SCHEDULE_DELAY": ""}, (2048, 5000, 512)),
    ],
)
def test_how_spans_are_batched(given: Given, environment: dict[str, str], numbers: tuple[int, int, int]) -> None:
    found = options(given, **{f"OTEL_BSP_{name}": value for name, value in environment.items()})
    assert (found.queue_size, found.delay_ms, found.batch_size) == numbers


@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        ({"url": ["ftp://c/secret"]}, {}, "--trace-config opentelemetry,url: expected a URL such as http://localhost"),
        ({"url": ["http://"]}, {}, "--trace-config opentelemetry,url: expected a URL"),
        ({"url": ["http://c:99999/secret"]}, {}, "--trace-config opentelemetry,url: expected a URL"),
        ({"url": ["http://[secret"]}, {}, "--trace-config opentelemetry,url: expected a URL"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "file:///secret"}, "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "://"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected a URL"),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "there are http/protobuf and grpc for spans, got"),
        ({"resource": ["k"]}, {}, "--trace-config opentelemetry,resource: expected KEY=VALUE, got 'k'"),
        ({"resource": ["=v"]}, {}, "expected KEY=VALUE, got '=v'"),
        ({"bsp_max_queue_size": ["0"]}, {}, "opentelemetry,bsp_max_queue_size: expected a whole number from 1 to"),
        ({"bsp_schedule_delay": ["1.5"]}, {}, "opentelemetry,bsp_schedule_delay: expected a whole number"),
        ({"bsp_max_queue_size": ["9" * 5000]}, {}, "expected a whole number from 1 to"),
        ({}, {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds, such as 10"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "zip"}, "_TRACES_COMPRESSION: expected gzip, deflate or none"),
        ({}, {"OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY: expected a whole number from 1 to"),
    ],
)
def test_what_cannot_be_followed_is_named_and_addresses_are_not_shown(
    given: Given, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(StartupError) as refused:
        options(given, **environment)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_is_shown_without_what_may_be_secret_in_it() -> None:
    found = options({"url": ["https://me:secret@c:4318/v1/traces?key=secret"]})
    assert found.shown_endpoint == "https://c:4318/v1/traces"


@pytest.mark.parametrize(("text", "disabled"), [("true", True), (" TRUE ", True), ("", False), ("1", False)])
def test_opentelemetrys_own_switch_counts(text: str, disabled: bool) -> None:
    assert is_disabled({"OTEL_SDK_DISABLED": text}) == disabled
    assert not is_disabled({})
