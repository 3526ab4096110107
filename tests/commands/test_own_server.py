from collections.abc import Mapping, Sequence

import pytest

from ortolan.commands.own_server import OwnServer, arguments_behind_serve, own_server
from ortolan.errors import StartupError
from ortolan.hosting.runtime_flags import FIELD_OF_FLAG, with_ports
from ortolan.settings import Settings, find_hosting, read_settings
from ortolan.settings.tls_rules import own_grpc_tls


class Nothing:
    """A machine without files."""

    def is_directory(self, path: str) -> bool:  # noqa: ARG002
        return False

    def names(self, path: str) -> Sequence[str]:  # noqa: ARG002
        return ()


def seen(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> OwnServer:
    return own_server(arguments, environment or {}, Nothing())


CASES = [
    ({}, []),
    ({"ORTOLAN_HTTP_PORT": "9000", "ORTOLAN_GRPC_PORT": " 9001 "}, []),
    ({"ORTOLAN_HTTP_PORT": "", "ORTOLAN_METRICS_PORT": "9002"}, []),
    ({"ORTOLAN_HTTP_PORT": "9000"}, ["--http-port=9100"]),
    ({"ORTOLAN_HTTP_ADDRESS": "10.0.0.7"}, ["--grpc-address", "10.0.0.8", "--metrics-address=10.0.0.9"]),
    ({"ORTOLAN_ALLOW_HTTP": "no"}, []),
    ({"ORTOLAN_ALLOW_GRPC": "0", "ORTOLAN_ALLOW_METRICS": "False"}, []),
    ({}, ["--allow-http=false"]),
    ({}, ["--allow-http", "false", "--http-port", "9000"]),
    ({}, ["--allow-http", "--http-port", "9000", "--allow-metrics=f"]),
    ({"ORTOLAN_TLS_CERTIFICATE": "c.pem", "ORTOLAN_TLS_KEY": "k.pem"}, []),
    ({"ORTOLAN_TLS_CERTIFICATE": "c.pem", "ORTOLAN_TLS_KEY": "k.pem"}, ["--tls-client-ca=ca.pem"]),
    ({}, ["--tls-certificate=c", "--tls-key=k", "--tls-client-ca=a", "--tls-client-certificates=optional"]),
    ({}, ["--grpc-use-ssl", "--grpc-server-cert=c", "--grpc-server-key=k"]),
    ({}, ["--grpc-use-ssl-mutual=true", "--grpc-server-cert=c", "--grpc-server-key=k", "--grpc-root-cert=r"]),
    ({"K_SERVICE": "models", "PORT": "8888"}, []),
    ({"K_SERVICE": "models", "PORT": "8888", "ORTOLAN_GRPC_PORT": "9001", "ORTOLAN_HTTP_PORT": "9000"}, []),
    ({"K_SERVICE": "models", "PORT": "8888"}, ["--hosting=none"]),
    ({"SAGEMAKER_BIND_TO_PORT": "8877"}, []),
    ({"SAGEMAKER_BIND_TO_PORT": "8877", "SAGEMAKER_SAFE_PORT_RANGE": "9000-9999"}, ["--metrics-port=9002"]),
    ({"AIP_HTTP_PORT": "8899", "AIP_MODE": "PREDICTION"}, []),
    ({"MODEL_INIT_MODE": "async"}, ["--http_port=8123"]),
    ({"MODEL_INIT_MODE": "async"}, ["--rest_port=8123", "--port=9123", "--rest_bind_address", "10.0.0.7"]),
]


@pytest.mark.parametrize(("environment", "arguments"), CASES)
def test_the_ports_are_those_that_the_server_itself_would_open(
    environment: dict[str, str], arguments: list[str]
) -> None:
    settings = _settings(environment, arguments)
    found = seen(arguments, environment)
    reachable = {"0.0.0.0": "127.0.0.1"}  # noqa: S104
    expected = [
        (reachable.get(host, host), port) if is_open else None
        for is_open, host, port in (
            (settings.allow_http, settings.http_address, settings.http_port),
            (settings.allow_grpc, settings.grpc_address, settings.grpc_port),
            (settings.allow_metrics, settings.metrics_host, settings.metrics_port),
        )
    ]
    addresses = (found.http, found.grpc, found.metrics)
    assert [(each.host, each.port) if each else None for each in addresses] == expected
    assert not found.http or found.http.tls == bool(settings.tls_certificate)
    assert not found.grpc or found.grpc.tls == bool(settings.tls_certificate) or own_grpc_tls(settings)
    assert found.wants_certificates == _asks_for_certificates(settings)
    assert found.grpc_wants_certificates == (settings.grpc_use_ssl_mutual or _asks_for_certificates(settings))
    assert (found.certificate, found.key) == (settings.tls_certificate, settings.tls_key)


def _settings(environment: dict[str, str], arguments: list[str]) -> Settings:
    """As the server reads them; pairs without ``=`` are put together first, as argparse does."""
    flags: dict[str, object] = {}
    for at, argument in enumerate(arguments):
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            continue
        following = arguments[at + 1] if at + 1 < len(arguments) and not arguments[at + 1].startswith("--") else "true"
        flag = "--" + name.replace("_", "-")
        flags[FIELD_OF_FLAG.get(flag) or flag[2:].replace("-", "_")] = value if equals else following
    flags = with_ports(flags)
    return read_settings(flags, environment, find_hosting(flags, environment, Nothing()))


def _asks_for_certificates(settings: Settings) -> bool:
    return bool(settings.tls_client_ca) and settings.tls_client_certificates == "required"


@pytest.mark.parametrize(
    ("listening", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7"), ("localhost", "localhost")],  # noqa: S104
)
def test_a_server_on_all_addresses_is_asked_on_the_loopback_one(listening: str, asked: str) -> None:
    server = seen(environment={"ORTOLAN_HTTP_ADDRESS": listening})
    assert server.http
    assert server.http.host == asked
    assert server.metrics
    assert server.metrics.host == asked


# Kubernetes sets ORTOLAN_HTTP_PORT so beside a service that is called ortolan-http.
@pytest.mark.parametrize("text", ["tcp://10.0.0.1:80", "x", "65536", "-1"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(StartupError, match="ORTOLAN_HTTP_PORT"):
        seen(environment={"ORTOLAN_HTTP_PORT": text})


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["/usr/bin/python", "/opt/ortolan/bin/ortolan", "serve", "/models", ""], ["/models"]),
        (["python", "-m", "ortolan", "serve", "--http-port=9000"], ["--http-port=9000"]),
        (["/opt/bin/python", "/lib/ortolan/__main__.py", "serve"], []),
        (["ortolan", "models", "/models"], []),  # no server
        (["/sbin/init"], []),
        (["bash", "-c", "ortolan serve --http-port=9"], []),  # one word: whatever the shell makes of it
        ([], []),
    ],
)
def test_the_flags_of_a_containers_server_are_found(words: list[str], arguments: list[str]) -> None:
    assert arguments_behind_serve(words) == arguments
