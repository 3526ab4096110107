"""Who may ask, as the settings have it: what each port decides by, and what has to be looked at meanwhile."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from ortolan.errors import StartupError
from ortolan.frontend_options import grpc_tls, http_tls
from ortolan.frontends.access.access import Access, Credentials, Finder
from ortolan.frontends.access.api_keys import ApiKeys
from ortolan.frontends.access.browsers import is_loopback
from ortolan.frontends.access.grants import ANYBODY, ANYBODY_BUT_ADMIN, Grant, parse_grant
from ortolan.frontends.access.tokens import Tokens
from ortolan.frontends.tls.identity import PeerIdentity
from ortolan.settings import Settings
from ortolan.token_settings import token_options

_CERTIFICATE_HOLDER = "certificate"
_WITHOUT_FILE = "infer,read"


@dataclass(frozen=True, slots=True)
class Doorkeepers:
    """``http`` and ``grpc`` decide; each of ``keepers`` is run for as long as the server does."""

    http: Access
    grpc: Access
    keepers: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()


class _TokensNow:
    """Tokens, which expire, by the clock of the process."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def find(self, key: str) -> Grant | None:
        return self._tokens.find(key, time.time())


async def doorkeepers(settings: Settings) -> Doorkeepers:
    """Raises StartupError for keys that cannot be read, and for tokens that could not be verified by anything."""
    keys = ApiKeys(Path(settings.api_keys_file)) if settings.api_keys_file else None
    options = token_options(settings)
    tokens = Tokens(options) if options is not None else None
    if tokens is not None:
        await tokens.start()
    finders: list[Finder] = []
    keepers: list[Callable[[], Coroutine[None, None, None]]] = []
    if keys is not None:
        finders.append(keys)
        keepers.append(keys.keep)
    if tokens is not None:
        finders.append(_TokensNow(tokens))
        keepers.append(tokens.keep)
    http, grpc = http_tls(settings), grpc_tls(settings)
    return Doorkeepers(
        _access(settings, finders, keys, bool(http and http.client_ca), settings.http_address, has_browsers=True),
        _access(settings, finders, keys, bool(grpc and grpc.client_ca), settings.grpc_address, has_browsers=False),
        tuple(keepers),
    )


def _access(
    settings: Settings,
    finders: list[Finder],
    keys: ApiKeys | None,
    has_certificates: bool,
    address: str,
    has_browsers: bool,
) -> Access:
    """Of one port. ``has_certificates``: its clients are asked for one."""
    if not (finders or has_certificates):
        return _unasked(settings, address, has_browsers)
    everyone = certificate_grant(settings.tls_client_scopes, has_file=keys is not None) if has_certificates else None

    def find_identity(peer: PeerIdentity) -> Grant | None:
        return (keys.find_identity(peer) if keys is not None else None) or everyone

    return Access(Credentials(tuple(finders), find_identity))


def certificate_grant(scopes: str, has_file: bool) -> Grant | None:
    """What the holders of certificates may do that are not named one by one; None for "none".

    ``has_file``: others are. A line that is taken out, or has a mistake, must not come to more rights.

    Raises StartupError for a text that is no list of scopes.
    """
    if scopes == "auto":
        scopes = "none" if has_file else _WITHOUT_FILE
    if scopes == "none":
        return None
    try:
        return parse_grant(_CERTIFICATE_HOLDER, [scope.strip() for scope in scopes.split(",")])
    except ValueError as error:
        raise StartupError(f"--tls-client-scopes: {error}; or none, or auto") from None


def _unasked(settings: Settings, address: str, has_browsers: bool) -> Access:
    """Where nobody is asked who they are: administration is for this machine, unless the operator says otherwise."""
    if settings.admin_operations == "open":
        return Access(None, ANYBODY)
    if not is_loopback(address):
        return Access(None, ANYBODY_BUT_ADMIN)
    return Access(None, ANYBODY, checks_browsers=has_browsers)
