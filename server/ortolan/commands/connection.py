"""A connection to a server, plain or over TLS, with one deadline for everything; by the standard library's sockets.

No proxy that the environment names is asked: who probes a server means that one.
"""

import argparse
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from ortolan.commands.address import Address

if TYPE_CHECKING:
    import ssl


class TlsFiles(NamedTuple):
    """PEM files; "" for none. ``authorities``: who may have certified the server."""

    authorities: str = ""
    certificate: str = ""
    key: str = ""


def add_tls_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which files TLS with a server needs."""
    add = parser.add_argument
    add("--tls-ca", default="", metavar="FILE", help="who certifies the server; default: the system's authorities")
    add("--client-certificate", default="", metavar="FILE", help="the certificate to show, for mutual TLS")
    add("--client-key", default="", metavar="FILE", help="its private key")


def tls_context(address: Address, files: TlsFiles) -> "ssl.SSLContext":
    """TLS for ``address``. Raises OSError for files that cannot be read.

    A server is verified by ``files.authorities``, else by the system's. On a loopback address it is not, unless
    authorities are given: its certificate is for the name that others know it by, and nobody stands in between.
    """
    import ssl

    context = ssl.create_default_context(cafile=files.authorities or None)
    if address.is_loopback and not files.authorities:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.certificate:
        context.load_cert_chain(files.certificate, files.key or None)
    return context


class Connection:
    """One connection; everything on it together takes ``timeout_s`` at most. Raises OSError when it fails."""

    def __init__(self, address: Address, files: TlsFiles, timeout_s: float, protocols: tuple[str, ...] = ()) -> None:
        self._end = time.monotonic() + timeout_s
        self._socket = _connected(address, timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                context = tls_context(address, files)
                if protocols:
                    context.set_alpn_protocols(list(protocols))
                self._limit()
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._limit()
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """What comes next; b"" at the end."""
        self._limit()
        return self._socket.recv(1 << 16)

    def _limit(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)


def _connected(address: Address, timeout_s: float) -> socket.socket:
    """A socket to ``address``; to a number without asking anyone for its name, which would import tables of Unicode."""
    number = address.host.encode() if address.host.replace(".", "").isdecimal() or ":" in address.host else address.host
    failure = OSError(f"no address of {address.host} is known")
    for family, kind, protocol, _, place in socket.getaddrinfo(number, address.port, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(timeout_s)
            opened.connect(place)
            return opened
        except OSError as error:
            opened.close()
            failure = error
    raise failure


def wants_other_certificate(error: OSError) -> bool:
    """Whether a server answered that it takes no client without a certificate, or not with the one that it was shown.

    OpenSSL's names of RFC 8446's alerts, such as TLSV13_ALERT_CERTIFICATE_REQUIRED; without ALERT it is our own view of
    the server's certificate.
    """
    reason = str(getattr(error, "reason", None) or "")
    return "_ALERT_" in reason and ("CERTIFICATE" in reason or reason.endswith("_UNKNOWN_CA"))


def explained(error: OSError, address: Address, timeout_s: float) -> str:
    """Why nothing came from ``address``, in half a line."""
    if isinstance(error, TimeoutError):
        return f"no answer from {address.place} within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {address.place}"
    return f"{address.place}: {_reason(error)}"


def _reason(error: OSError) -> str:
    reason = str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or error)
    if reason == "WRONG_VERSION_NUMBER":
        return "no TLS there; ask with http:// or grpc://"
    if isinstance(error, FileNotFoundError):
        return f"{reason}: {error.filename or 'a file of TLS'}"
    return reason.lower().replace("_", " ") if reason.isupper() else reason
