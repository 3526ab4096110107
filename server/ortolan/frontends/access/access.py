"""Who may do what: decided from what a request carries and from nothing else, the same for REST and gRPC."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ortolan.core.request_note import RequestNote
from ortolan.errors import Unauthenticated
from ortolan.frontends.access.admission import admit
from ortolan.frontends.access.browsers import Header, refuse_foreign_page
from ortolan.frontends.access.grants import ANYBODY, Grant
from ortolan.frontends.access.operations import Operation
from ortolan.frontends.tls.identity import PeerIdentity

_log = logging.getLogger(__name__)

CREDENTIAL_HEADERS = ("authorization", "x-api-key")
"""What they hold are secrets."""

_BEARER = "bearer "
_TOLD_EVERY_S = 60.0
# In lower case, as gRPC's metadata have to be; HTTP takes either.
_HOW = "send it as 'authorization: Bearer KEY' or as 'x-api-key: KEY'"
_MISSING = f"this server answers those only whom it knows, by a key or a token; {_HOW}"
_UNKNOWN = f"the server does not know this key or token, or no longer; {_HOW}"


class Finder(Protocol):
    """Who knows what the holder of a key may do."""

    def find(self, key: str) -> Grant | None: ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is known to the server. ``find_identity``: what the holder of such a certificate may do."""

    finders: Sequence[Finder]
    find_identity: Callable[[PeerIdentity], Grant | None]

    def find(self, key: str) -> Grant | None:
        """What the holder of ``key`` may do; None where nobody knows it."""
        for finder in self.finders:
            if (found := finder.find(key)) is not None:
                return found
        return None


class Access:
    """The decisions of one port. Lives on the event loop."""

    def __init__(
        self, credentials: Credentials | None, anybody: Grant = ANYBODY, checks_browsers: bool = False
    ) -> None:
        """Without ``credentials`` nobody is asked who they are, and all may do what ``anybody`` may.

        ``checks_browsers``: administration is open to programs on this machine, and not to web pages that their
        browsers show.
        """
        self._credentials = credentials
        self._anybody = anybody
        self._checks_browsers = checks_browsers
        self._refused = RefusalCount()

    @property
    def needs_credentials(self) -> bool:
        return self._credentials is not None

    @property
    def guards(self) -> bool:
        """Whether any request at all may be refused."""
        return self.needs_credentials or self._checks_browsers or self._anybody is not ANYBODY

    def grant(self, header: Header, peer: PeerIdentity | None) -> Grant:
        """What a request with these headers, from a client with this certificate, may do.

        Raises Unauthenticated where it says nothing of who sends it, or something that the server does not know.
        """
        known = self._credentials
        if known is None:
            return self._anybody
        key = _key(header)
        found = known.find(key) if key is not None else known.find_identity(peer) if peer is not None else None
        if found is None:
            self._refused.add()
            raise Unauthenticated(_MISSING if key is None else _UNKNOWN)
        return found

    def check(
        self,
        operation: Operation,
        model: str | None,
        header: Header,
        peer: PeerIdentity | None,
        note: RequestNote | None = None,
    ) -> None:
        """Raises Unauthenticated or Forbidden where the request is not to be answered. ``note`` is told who asks."""
        if operation.scopes:
            grant = self.grant(header, peer)
            if note is not None and not grant.is_anybodys:
                note.asked_by(grant.holder)
            if self._checks_browsers and operation.is_admin:
                refuse_foreign_page(header)
            admit(grant, operation, model)

    def check_platform(
        self,
        operation: Operation,
        model: str | None,
        header: Header,
        peer: PeerIdentity | None,
        note: RequestNote | None = None,
    ) -> None:
        """``check`` of what a hosting platform asks by its own routes, which has no way to send a key.

        Where nobody has one, administration by these routes is for whoever reaches them: the platform's network guards
        them. Raises as ``check`` does.
        """
        if self.needs_credentials or self._checks_browsers:
            self.check(operation, model, header, peer, note)


class RefusalCount:
    """Says at most once a minute how many were refused, so that who tries keys fills no disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._next_s = 0.0

    def add(self) -> None:
        self._count += 1
        now_s = self._clock()
        if now_s >= self._next_s:
            _log.warning("requests refused because they had no key, or one that is not known: %d", self._count)
            self._count = 0
            self._next_s = now_s + _TOLD_EVERY_S


def _key(header: Header) -> str | None:
    """The key that a request brings; of both headers X-API-Key counts, since proxies use the other for themselves."""
    key = header("x-api-key")
    if key is None:
        value = header("authorization")
        if value is not None and value[: len(_BEARER)].lower() == _BEARER:
            key = value[len(_BEARER) :]
    return key.strip() if key is not None else None
