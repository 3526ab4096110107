"""What a client of an HTTP/1 port may ask for in bytes and in time: decisions; the clock comes in as an argument."""

from collections.abc import Sequence
from dataclasses import dataclass

from ortolan.frontends.rest.hosts import is_host

_VERSIONS = ("1.0", "1.1", "2")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Of one connection."""

    head_bytes: int = 65_536
    """So long may a request's line and headers be, and whatever else of it is no body."""
    head_s: float = 10.0
    """So long a request's line and headers may take; the first may begin as late."""
    pace_bytes: int = 65_536
    pace_s: float = 60.0
    """So much of a body that is not whole must come in so long, if it does not become whole."""
    stalled_s: float = 60.0
    """So long a client may take nothing of the answer that waits for it."""
    linger_s: float = 1.0
    """So long what the client still sends is thrown away once it was told that the connection ends."""
    unwanted_bytes: int = 64 << 20
    """So much of a body that was answered already is thrown away for the sake of the next request; not more."""


class Pace:
    """Whether enough of something moves. Times are seconds on the monotonic clock."""

    __slots__ = ("_least", "_moved", "_since_s", "_within_s")

    def __init__(self, least: float, within_s: float, now_s: float, moved: int = 0) -> None:
        """``least`` must move within each ``within_s``; ``moved`` has moved already."""
        self._least = least
        self._within_s = within_s
        self._since_s = now_s
        self._moved = moved

    def ends_s(self, now_s: float, moved: int) -> float:
        """When patience ends, or ended, if nothing else moves; ``moved``: how much has moved in all."""
        if moved >= self._moved + self._least:
            self.rest(now_s, moved)
        return self._since_s + self._within_s

    def rest(self, now_s: float, moved: int) -> None:
        """Until now it was not to move."""
        self._moved = moved
        self._since_s = now_s


def head_fault(headers: Sequence[tuple[bytes, bytes]], version: str) -> tuple[int, str] | None:
    """Why a request with these headers (names in lower case) is refused: a status and a text; None where it is not.

    Raises nothing. The rules are those of RFC 9112, sections 2.3, 3.2 and 6.1, and of RFC 9110, section 10.1.1.
    """
    hosts, codings, expectations = [], [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower())
        elif name == b"expect":
            expectations.append(value.strip().lower())
    if version not in _VERSIONS:
        return 505, f"HTTP/{version} is not spoken here; send HTTP/1.1"
    if codings and version == "1.0":
        return 400, "a request of HTTP/1.0 has no Transfer-Encoding; send Content-Length, or HTTP/1.1"
    if codings and codings != [b"chunked"]:
        return 501, "Transfer-Encoding expects 'chunked' and no other coding; compress with Content-Encoding"
    if expectations and expectations != [b"100-continue"]:
        return 417, "Expect takes '100-continue' and nothing else"
    return _host_fault(hosts, version)


def _host_fault(hosts: Sequence[bytes], version: str) -> tuple[int, str] | None:
    if len(hosts) > 1:
        return 400, f"a request needs one Host, got {len(hosts)}"
    if hosts and not is_host(hosts[0]):
        return 400, "Host expects a name or an address, and a port if need be"
    if not hosts and version != "1.0":
        return 400, f"a request of HTTP/{version} needs a Host header"
    return None
