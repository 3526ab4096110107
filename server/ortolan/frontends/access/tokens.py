"""Who holds a token of an OpenID Connect issuer, and what they may do: the same for REST and gRPC.

PyJWT and cryptography verify signatures; what stands around that is read here, because the time comes in as an
argument and what a stranger sends must cost little. Which algorithms count is fixed by the operator, and which of them
a key is for by the key: a token only says which one it is about.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from ortolan.errors import StartupError
from ortolan.frontends.access.fresh_keys import FILE_PACE, FreshKeys, Pace
from ortolan.frontends.access.grants import Grant
from ortolan.frontends.access.jwks import KeySet
from ortolan.frontends.access.key_fetching import KeysUnavailable
from ortolan.frontends.access.key_sources import key_source
from ortolan.frontends.access.token_claims import Accepted, judge
from ortolan.frontends.access.token_options import TokenOptions, require_library
from ortolan.frontends.access.token_text import TokenRefused, parse_token, shown

_log = logging.getLogger(__name__)

_LONGEST = 16 << 10
_REMEMBERED = 1024


class Tokens:
    """The tokens of one issuer. Lives on the event loop."""

    def __init__(self, options: TokenOptions, pace: Pace | None = None, clock: Callable[[], float] = time.time) -> None:
        """``clock`` tells the same Unix time as ``find`` is given.

        Raises StartupError when the library that verifies tokens is not installed.
        """
        require_library()
        self._options = options
        usual = FILE_PACE if options.has_key_file else Pace()
        self._keys = FreshKeys(key_source(options), pace or usual, clock)
        self._verified = VerifiedTokens()

    async def start(self) -> None:
        """Get the keys for the first time, in ten seconds at most.

        Raises StartupError for a file that cannot be used. An issuer that does not answer is asked again by ``keep``;
        until it does, all tokens are refused.
        """
        if not self._options.has_key_file:
            await self._keys.try_refresh()
            return
        try:
            await self._keys.refresh()
        except KeysUnavailable as error:
            raise StartupError(f"--jwt-keys: {error}") from None

    async def keep(self) -> None:
        """Keep the keys fresh, for ever."""
        await self._keys.keep()

    def find(self, token: str, now_s: float) -> Grant | None:
        """What the holder of ``token`` may do at the Unix time ``now_s``; None, whatever is wrong with it.

        Nothing is waited for: a token whose key is not known has it fetched, and is refused.
        """
        try:
            return self._found(token, now_s).grant
        except TokenRefused as refused:
            _log.debug("a token was refused: %s", refused)
            return None

    def _found(self, token: str, now_s: float) -> Accepted:
        if len(token) > _LONGEST or not token.isascii():
            raise TokenRefused(f"it is no token, or one with more than {_LONGEST} characters")
        keys = self._keys.at(now_s)
        if keys is None:
            raise TokenRefused("the issuer's keys are not known, or too old")
        digest = hashlib.sha256(token.encode()).digest()
        accepted = self._verified.find(digest, keys, now_s)
        if accepted is None:
            accepted = self._judged(token, keys, now_s)
            self._verified.add(digest, accepted)
        return accepted

    def _judged(self, token: str, keys: KeySet, now_s: float) -> Accepted:
        text = parse_token(token, self._options.algorithms)
        key = keys.find(text.kid, text.algorithm)
        if key is None:
            self._keys.want_newer()
            raise TokenRefused(
                f"the issuer has no key {shown(text.kid)} for {text.algorithm}, or several without an id"
            )
        if not key.verifies(text.algorithm, text.signed, text.signature):
            if text.kid is None:
                # Another key may have come in the place of one that has no id.
                self._keys.want_newer()
            raise TokenRefused("its signature is wrong")
        return judge(text.payload, now_s, self._options)


class VerifiedTokens:
    """Those verified lately, by their SHA-256: only tokens that count are in it, so that strangers cannot fill it."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._keys: KeySet | None = None
        self._accepted: OrderedDict[bytes, Accepted] = OrderedDict()

    def find(self, digest: bytes, keys: KeySet, now_s: float) -> Accepted | None:
        """What was decided by these very ``keys``; None for a token that is not there, or has expired."""
        if keys is not self._keys:
            self._keys = keys
            self._accepted.clear()
        accepted = self._accepted.get(digest)
        if accepted is None:
            return None
        if now_s >= accepted.until_s:
            del self._accepted[digest]
            return None
        self._accepted.move_to_end(digest)
        return accepted

    def add(self, digest: bytes, accepted: Accepted) -> None:
        """Remember a decision by the keys of the last ``find``; the one used longest ago is forgotten for it."""
        self._accepted[digest] = accepted
        if len(self._accepted) > self._most:
            self._accepted.popitem(last=False)
