"""What settings of TLS must obey, so that nobody believes to be guarded who is not."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortolan.settings.chosen import Settings


def refuse_wrong_tls(settings: "Settings") -> None:
    """Raises ValueError where TLS is asked for in part, or in a way that it cannot be had."""
    _refuse_wrong_files(settings)
    _refuse_wrong_grpc_files(settings)
    if not (own_grpc_tls(settings) and settings.allow_grpc):
        return
    if settings.one_port:
        raise ValueError(
            "--grpc-use-ssl is for gRPC alone, and HTTP has the same port; say --tls-certificate and --tls-key, which "
            "are for both, or give them different ports"
        )


def own_grpc_tls(settings: "Settings") -> bool:
    """Whether gRPC has a certificate of its own, by Triton's flags. Mutual TLS needs no further flag there."""
    return settings.grpc_use_ssl or settings.grpc_use_ssl_mutual


def _refuse_wrong_files(settings: "Settings") -> None:
    s = settings
    if bool(s.tls_certificate) != bool(s.tls_key):
        raise ValueError("--tls-certificate and --tls-key are only of use together")
    if s.tls_client_ca and not s.tls_certificate:
        raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key: clients show theirs over TLS")
    if s.tls_client_certificates == "optional" and not s.tls_client_ca:
        raise ValueError(
            "--tls-client-certificates=optional needs --tls-client-ca: who certifies those clients that show one"
        )
    over_grpcio = s.allow_grpc and s.grpc_transport == "grpcio" and not own_grpc_tls(s)
    if s.tls_client_certificates == "optional" and over_grpcio:
        raise ValueError(
            "--tls-client-certificates=optional excludes --grpc-transport=grpcio, which asks all clients or none; "
            "leave the transport out"
        )


def _refuse_wrong_grpc_files(settings: "Settings") -> None:
    s = settings
    pair = s.grpc_server_cert and s.grpc_server_key
    if own_grpc_tls(s) and not pair:
        raise ValueError("--grpc-use-ssl and --grpc-use-ssl-mutual need --grpc-server-cert and --grpc-server-key")
    if s.grpc_use_ssl_mutual and not s.grpc_root_cert:
        raise ValueError("--grpc-use-ssl-mutual needs --grpc-root-cert: who certifies the clients")
    if (s.grpc_server_cert or s.grpc_server_key) and not own_grpc_tls(s):
        raise ValueError(
            "--grpc-server-cert and --grpc-server-key need --grpc-use-ssl=true: without it gRPC would be in the clear"
        )
    if s.grpc_root_cert and not s.grpc_use_ssl_mutual:
        raise ValueError(
            "--grpc-root-cert needs --grpc-use-ssl-mutual=true: without it no client would be asked for a certificate"
        )
