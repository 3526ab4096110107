"""Heads of requests that came before, byte for byte: what they say is known, and need not be parsed again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ortolan.frontends.rest.inference import Target
from ortolan.frontends.rest.known_requests import KnownRequests
from ortolan.frontends.rest.noted import REQUEST_ID_HEADER
from ortolan.frontends.rest.passing_lines import CALLERS_SPAN, without_lines

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
    request_id: bytes | None = None
    """What each request with this head is called, where that belongs to the head."""

    def header(self, name: bytes) -> str | None:
        """The value of the header ``name`` (lower case), or None."""
        value = self.by_name.get(name)
        return None if value is None else str(value, "latin-1")


class KnownHeads:
    """The heads that the parser has read of late. For one thread.

    Heads that differ in nothing but what passes with each request, such as its id, are the same.
    """

    def __init__(self, passing: Collection[bytes] = (REQUEST_ID_HEADER, *CALLERS_SPAN)) -> None:
        """``passing``: those of these headers that nobody looks at in an inference; the others belong to the head."""
        self._passing = tuple(passing)
        # Each request has its own, so that heads with them would only drive out all others.
        self._unique = tuple(name for name in CALLERS_SPAN if name not in self._passing)
        self._known: dict[bytes, KnownHead] = {}
        self._requests: dict[tuple[object, ...], KnownRequests] = {}
        self._lessons = 0

    def find(self, data: bytes) -> tuple[KnownHead, int, bytes | None] | None:
        """The head that ``data`` begins with, where its body begins, and its id or None.

        None where ``data`` is not one whole known request.
        """
        end = data.find(END, 0, LONGEST_BYTES)
        if end <= 0:
            return None
        head = data[:end]
        sent_id = None
        known = self._known.get(head)
        if known is None and (parts := without_lines(head, self._passing)) is not None:
            head, sent_id = parts
            known = self._known.get(head)
        start = end + len(END)
        if known is None or known.body_bytes != len(data) - start:
            return None
        return known, start, sent_id or known.request_id

    def learn(self, data: bytes, head: KnownHead) -> None:
        """``data`` was one whole request, and that is what its head says."""
        end = data.find(END, 0, LONGEST_BYTES)
        if end <= 0 or end + len(END) + head.body_bytes != len(data):
            return
        # Before its first line a parser skips empty ones, which nothing that is looked for by lines may begin with.
        if data.startswith((b"\r", b"\n")) or any(name in head.by_name for name in self._unique):
            return
        parts = without_lines(data[:end], self._passing)
        if parts is None:
            return
        key = parts[0]
        if REQUEST_ID_HEADER not in self._passing:
            head = replace(head, request_id=head.by_name.get(REQUEST_ID_HEADER))
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = head

    def lasting(self, headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
        """Those of ``headers`` that belong to the head."""
        return [header for header in headers if header[0] not in self._passing]

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
