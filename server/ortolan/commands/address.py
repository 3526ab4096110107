"""Where a server is asked, as people write it; imports nothing heavy, because probes start every few seconds."""

from collections.abc import Mapping
from typing import NamedTuple

from ortolan.errors import StartupError

HTTP_PORT = 8000
GRPC_PORT = 8001
METRICS_PORT = 8002

_WRITTEN = "HOST, HOST:PORT or {scheme}://HOST:PORT"


class Address(NamedTuple):
    """``path`` is "" or begins with a slash and ends without: what a proxy has the server behind."""

    host: str
    port: int
    tls: bool = False
    path: str = ""

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def http_address(text: str, default_port: int = HTTP_PORT) -> Address:
    """``text`` as an address for HTTP. Raises StartupError for what is none.

    Without a port it is that of http:// or https:// where one of these is written, as in browsers, or ``default_port``.
    """
    return _address(text, default_port, {"http": False, "https": True}, {"http": 80, "https": 443})


def grpc_address(text: str) -> Address:
    """The same for gRPC, without a path."""
    address = _address(text, GRPC_PORT, {"grpc": False, "grpcs": True, "http": False, "https": True}, {})
    if address.path:
        raise StartupError(f"expected {_WRITTEN.format(scheme='grpc')} without a path, got {text!r}")
    return address


def _address(text: str, port: int, schemes: Mapping[str, bool], scheme_ports: Mapping[str, int]) -> Address:
    # Not above: a probe of the server beside it needs none of this.
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, given_port = parts.hostname, parts.port
    except ValueError:
        host = given_port = None
    known = not parts.scheme or parts.scheme in schemes if host else False
    if not host or not known or parts.query or parts.fragment or parts.username is not None:
        raise StartupError(f"expected {_WRITTEN.format(scheme=next(iter(schemes)))}, got {text!r}")
    default = scheme_ports.get(parts.scheme, port)
    return Address(host, given_port or default, schemes.get(parts.scheme, False), parts.path.rstrip("/"))
