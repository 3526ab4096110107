"""Heads of requests that came before, byte for byte: what they say is known, and need not be parsed again."""

from collections.abc import Sequence
from dataclasses import dataclass

from ortolan.frontends.rest.inference import Target
from ortolan.frontends.rest.known_requests import KnownRequests

_MOST = 256
_MOST_LESSONS = 1024
LONGEST_BYTES = 1024
END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class KnownHead:
    """An inference over HTTP/1.1 that keeps its connection, declares its body's length, and expects nothing else."""

    path: str
    target: Target
    headers: Sequence[tuple[bytes, bytes]]
    by_name: dict[bytes, bytes]
    """Of several headers of one name the first."""
    body_bytes: int
    json_bytes: int | None = None
    """How many bytes of the body are JSON; None where all are."""
    requests: KnownRequests | None = None
    """The requests that came with it; None where more than their bodies is to be looked at."""

    def header(self, name: bytes) -> str | None:
        """The value of the header ``name`` (lower case), or None."""
        value = self.by_name.get(name)
        return None if value is None else str(value, "latin-1")


class KnownHeads:
    """The heads that the parser has read of late. For one thread."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}
        self._requests: dict[tuple[object, ...], KnownRequests] = {}
        self._lessons = 0

    def find(self, data: bytes) -> tuple[KnownHead, int] | None:
        """The head that ``data`` begins with and where its body begins, if ``data`` is one whole known request."""
        end = data.find(END, 0, LONGEST_BYTES)
        if end <= 0:
            return None
        known = self._known.get(data[:end])
        start = end + len(END)
        if known is None or known.body_bytes != len(data) - start:
            return None
        return known, start

    def learn(self, data: bytes, head: KnownHead) -> None:
        """``data`` was one whole request, and that is what its head says."""
        end = data.find(END, 0, LONGEST_BYTES)
        if end <= 0 or end + len(END) + head.body_bytes != len(data):
            return
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[data[:end]] = head

    def requests_with(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> KnownRequests:
        """Those that came with such a head, whatever length of the body it declared."""
        key = (path, *[header for header in headers if header[0] != b"content-length"])
        found = self._requests.get(key)
        if found is None:
            if len(self._requests) >= _MOST:
                del self._requests[next(iter(self._requests))]
            found = self._requests[key] = KnownRequests()
        return found

    def learned(self) -> None:
        """One of those requests was learned: of all heads together there are not to be too many."""
        self._lessons += 1
        if self._lessons >= _MOST_LESSONS:
            self._lessons = 0
            self._known.clear()
            self._requests.clear()
