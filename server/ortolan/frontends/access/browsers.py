"""Whether a request may come from a web page, which a browser on this machine would send on (pure).

A page can have requests sent to 127.0.0.1, and one whose name was made to lead there can read the answers too.
"""

import ipaddress
from collections.abc import Callable

from ortolan.errors import Forbidden

Header = Callable[[str], str | None]
"""The value of a request's header by its lower-case name; None where there is none."""

_FOREIGN = (
    "administration without a key is for programs on the server's own machine: the request's Host has to be localhost "
    "or a loopback address, and its Origin, if it has one, the same; others need a key"
)


def refuse_foreign_page(header: Header) -> None:
    """Raises Forbidden where the request's Host is not this machine, or its Origin another than that."""
    host, origin = (header("host") or "").lower(), header("origin")
    same = origin is None or origin.lower().partition("://")[2] == host
    if not (same and is_loopback(_name(host))):
        raise Forbidden(_FOREIGN)


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without brackets, is this machine and no other."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The name or address of a Host header's value."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
