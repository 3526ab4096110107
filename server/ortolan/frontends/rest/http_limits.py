"""What a client of an HTTP/1 port may ask for in bytes and in time: decisions; the clock comes in as an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Of one connection."""

    head_bytes: int = 65_536
    """So long may a request's line and headers be, and whatever else of it is no body."""
    head_s: float = 20.0
    """So long a request's line and headers may take; the first may begin as late."""
    pace_bytes: int = 65_536
    pace_s: float = 60.0
    """So much of a body that is not whole must come in so long, if it does not become whole."""
    stalled_s: float = 300.0
    """So long a client may take nothing of the answer that waits for it."""
    linger_s: float = 1.0
    """So long what the client still sends is thrown away once it was told that the connection ends."""


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


def head_fault(headers: list[tuple[bytes, bytes]], version: str) -> tuple[int, str] | None:
    """Why a request with these headers (names in lower case) is refused: a status and a text; None where it is not.

    Raises nothing. The rules are RFC 9112's: section 3.2, a request of HTTP/1.1 names its host; section 6.1, a transfer
    coding that is not understood is answered with 501.
    """
    values = dict(headers)
    if b"host" not in values and version == "1.1":
        return 400, "a request of HTTP/1.1 needs a Host header"
    if b"transfer-encoding" in values:
        codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
        if codings != [b"chunked"]:
            return 501, "Transfer-Encoding expects 'chunked' and no other coding; compress with Content-Encoding"
    return None
