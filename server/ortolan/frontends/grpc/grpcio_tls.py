"""TLS of grpcio's server: the same certificates, asked for at each handshake."""

from typing import Any

import grpc

from ortolan.frontends.tls.server_tls import ServerTls
from ortolan.frontends.tls.tls_files import TlsContents


def server_credentials(tls: ServerTls) -> Any:
    """Credentials that follow ``tls``, of which clients may not be optional: grpcio asks all of them, or none."""
    newest = _Newest(tls)
    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls.contents), newest.if_changed, require_client_authentication=tls.files.client_ca is not None
    )


class _Newest:
    """What grpcio asks at each handshake, from a thread of its own."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._told = tls.contents

    def if_changed(self) -> Any:
        """The configuration to use from now on; None for the one in use."""
        contents = self._tls.contents
        if contents is self._told:
            return None
        self._told = contents
        return _configuration(contents)


def _configuration(contents: TlsContents) -> Any:
    return grpc.ssl_server_certificate_configuration([(contents.key, contents.certificate)], contents.client_ca)
