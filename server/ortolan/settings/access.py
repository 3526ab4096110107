"""Who may ask, and how clients and server prove who they are."""

from typing import Literal

from pydantic import BaseModel, Field

from ortolan.frontends.access.token_options import (
    DEFAULT_ALGORITHMS,
    DEFAULT_SCOPES,
    NAME_CLAIM,
    SCOPE_CLAIM,
    SCOPE_PREFIX,
)


class AccessSettings(BaseModel):
    """Who may ask, and how clients and server prove who they are."""

    api_keys_file: str = Field(
        "",
        description="The file of those who may ask: lines NAME:sha256:HEX[:SCOPES], made by `ortolan api-key`; anybody "
        "if not given. It is looked at again when it changes.",
    )
    admin_operations: Literal["auto", "open"] = Field(
        "auto",
        description="Who may load and unload models and change logging, tracing and shared memory without a key; auto: "
        "programs on the same machine, where the address to listen on is a loopback one; open: anybody.",
    )
    jwt_issuer: str = Field(
        "", description="The OpenID Connect issuer whose tokens count as keys, letter by letter as it names itself."
    )
    jwt_audience: str = Field("", description="Whom those tokens must be for: this server's name with the issuer.")
    jwt_keys: str = Field(
        "",
        description="The issuer's public keys (JWKS): a file, which is looked at again when it changes, or an https "
        "address; what the issuer's own configuration says if not given.",
    )
    jwt_algorithms: str = Field(
        ",".join(DEFAULT_ALGORITHMS), description="How tokens may be signed, parted by commas; PS256 and so on as well."
    )
    jwt_scope_claim: str = Field(SCOPE_CLAIM, description="The claim with a token's scopes; with scope also scp.")
    jwt_scope_prefix: str = Field(
        SCOPE_PREFIX, description="What scopes for this server begin with, as ortolan:infer does; others do not count."
    )
    jwt_default_scopes: str = Field(
        ",".join(DEFAULT_SCOPES),
        description="What tokens without such scopes may do, parted by commas; none: they are refused.",
    )
    jwt_name_claim: str = Field(NAME_CLAIM, description="The claim by which the log names who holds a token.")
    tls_certificate: str = Field(
        "",
        description="The PEM file of the server's certificate, with those that lead to its authority: HTTP and gRPC go "
        "over TLS, not metrics. It is looked at again every 2 seconds, as the other files of TLS are.",
    )
    tls_key: str = Field("", description="The PEM file of that certificate's private key, which is not encrypted.")
    tls_client_ca: str = Field(
        "", description="The PEM file of the authorities of which clients have to show a certificate: mutual TLS."
    )
    tls_client_certificates: Literal["required", "optional"] = Field(
        "required", description="optional: clients may show no certificate, and be known by a key or a token instead."
    )
    tls_client_scopes: str = Field(
        "auto",
        description="What clients with a certificate may do that are not in --api-keys-file: scopes parted by commas, "
        "or none; auto: infer,read without that file, and none with it.",
    )
    grpc_use_ssl: bool = Field(False, description="TLS for gRPC alone, with a certificate of its own.")
    grpc_use_ssl_mutual: bool = Field(False, description="The same, and clients have to show a certificate.")
    grpc_server_cert: str = Field("", description="As --tls-certificate, for gRPC alone.")
    grpc_server_key: str = Field("", description="As --tls-key, for gRPC alone.")
    grpc_root_cert: str = Field("", description="As --tls-client-ca, for gRPC alone.")
