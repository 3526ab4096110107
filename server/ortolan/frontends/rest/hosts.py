"""The hosts that requests name: whether one is a host at all, and whether the operator lets it be asked for.

Who lets a browser's page ask a server that only this machine or its network can reach, by way of a name that suddenly
means this server, is told apart by that name alone.
"""

import re
from collections.abc import Iterable, Sequence

from ortolan.errors import StartupError
from ortolan.frontends.rest.operations import category_of
from ortolan.inference.printable import printable

MISDIRECTED = 421
_LONGEST_BYTES = 1024
# RFC 3986, section 3.2.2, without a user before it.
_HOST = re.compile(
    rb"(\[[0-9A-Za-z:.%~_-]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})*+)(?::[0-9]*)?",
)
_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_SHOWN = 80


def is_host(value: bytes) -> bool:
    """Whether a Host header, or what HTTP/2 has for it, is of its form."""
    return len(value) <= _LONGEST_BYTES and _HOST.fullmatch(value) is not None


class AllowedHosts:
    """Names that requests may ask for; any without one. Ports do not count, nor do capitals."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """``*.example.com`` is each name below it, an address of IPv6 stands in brackets. Raises StartupError."""
        chosen = [_checked(name.lower()) for name in names]
        self._any = not chosen or "*" in chosen
        self._names = frozenset(name for name in chosen if not name.startswith("*"))
        self._suffixes = tuple(name[1:] for name in chosen if name.startswith("*."))

    def allows(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether a request for ``target`` with these headers (names in lower case) may be answered.

        Whether the server is healthy is told to everybody: probes ask by the address of a container or pod.
        """
        return (
            self._any or self._may(_host(headers)) or category_of(str(target.partition(b"?")[0], "latin-1")) == "health"
        )

    def refusal(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """What it is told otherwise, with the status ``MISDIRECTED``."""
        host = _host(headers)
        named = f"the host '{printable(str(host, 'latin-1'), _SHOWN)}'" if host else "a request without a host"
        return f"this server does not answer for {named}; its operator can add a name with --http-allowed-host"

    def _may(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = str(found[1], "latin-1").lower().removesuffix(".")
        return name in self._names or name.endswith(self._suffixes)


ANY_HOST = AllowedHosts()


def _host(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return next((value for name, value in headers if name == b"host"), b"")


def _checked(name: str) -> str:
    if name != "*" and not _PATTERN.fullmatch(name):
        raise StartupError(
            f"--http-allowed-host expects a name, *. and a name, or an address (of IPv6 in brackets), without a port; "
            f"got {name!r}"
        )
    return name
