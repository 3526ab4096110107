"""Which settings of TLS go together, and what each port gets of them."""

from pathlib import Path

import pytest

from ortolan.errors import StartupError
from ortolan.frontend_options import grpc_tls, http_tls
from ortolan.frontends.tls.tls_files import GRPC_TLS_FLAGS, TlsFiles
from ortolan.settings import Settings, read_settings

PAIR = {"tls_certificate": "c", "tls_key": "k"}
OWN = {"grpc_use_ssl": "true", "grpc_server_cert": "gc", "grpc_server_key": "gk"}
BOTH = TlsFiles(Path("c"), Path("k"))


def settings(**flags: str) -> Settings:
    return read_settings(flags, {})


@pytest.mark.parametrize(
    ("flags", "http", "grpc"),
    [
        ({}, None, None),
        (PAIR, BOTH, BOTH),
        (OWN, None, TlsFiles(Path("gc"), Path("gk"), flags=GRPC_TLS_FLAGS)),  # as in Triton: gRPC alone
        (PAIR | OWN, BOTH, TlsFiles(Path("gc"), Path("gk"), flags=GRPC_TLS_FLAGS)),
        (
            PAIR | {"tls_client_ca": "a"},
            TlsFiles(Path("c"), Path("k"), Path("a")),
            TlsFiles(Path("c"), Path("k"), Path("a")),
        ),
        (
            PAIR | {"tls_client_ca": "a", "tls_client_certificates": "optional"},
            TlsFiles(Path("c"), Path("k"), Path("a"), client_optional=True),
            TlsFiles(Path("c"), Path("k"), Path("a"), client_optional=True),
        ),
        (
            OWN | {"grpc_use_ssl": "false", "grpc_use_ssl_mutual": "true", "grpc_root_cert": "ga"},
            None,
            TlsFiles(Path("gc"), Path("gk"), Path("ga"), flags=GRPC_TLS_FLAGS),
        ),
        # Not asked for by gRPC's own flags, so its clients show none.
        (
            PAIR | {"tls_client_ca": "a"} | OWN,
            TlsFiles(Path("c"), Path("k"), Path("a")),
            TlsFiles(Path("gc"), Path("gk"), flags=GRPC_TLS_FLAGS),
        ),
    ],
)
def test_each_port_gets_its_files(flags: dict[str, str], http: TlsFiles | None, grpc: TlsFiles | None) -> None:
    assert (http_tls(settings(**flags)), grpc_tls(settings(**flags))) == (http, grpc)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tls_key": "k"}, "--tls-certificate and --tls-key are only of use together"),
        ({"tls_certificate": "c"}, "--tls-certificate and --tls-key are only of use together"),
        ({"tls_client_ca": "a"}, "--tls-client-ca needs --tls-certificate"),
        (PAIR | {"tls_client_certificates": "optional"}, "optional needs --tls-client-ca"),
        (
            PAIR | {"tls_client_ca": "a", "tls_client_certificates": "optional", "grpc_transport": "grpcio"},
            "excludes --grpc-transport=grpcio",
        ),
        ({"grpc_use_ssl": "true"}, "need --grpc-server-cert and --grpc-server-key"),
        ({"grpc_use_ssl": "true", "grpc_server_cert": "gc"}, "need --grpc-server-cert and --grpc-server-key"),
        (OWN | {"grpc_use_ssl_mutual": "true"}, "needs --grpc-root-cert"),
        (OWN | {"grpc_root_cert": "ga"}, "--grpc-root-cert needs --grpc-use-ssl-mutual=true"),
        ({"grpc_server_cert": "gc", "grpc_server_key": "gk"}, "gRPC would be in the clear"),
        (PAIR | OWN | {"http_port": "8000", "grpc_port": "8000"}, "--grpc-use-ssl is for gRPC alone"),
    ],
)
def test_what_would_guard_less_than_it_says_is_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        settings(**flags)
