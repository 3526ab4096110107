"""Where an issuer's keys come from: a file, an address, or where the issuer's own configuration says."""

import time
from pathlib import Path
from typing import Protocol

import orjson

from ortolan.frontends.access.key_address import is_loopback, refuse_wrong_address
from ortolan.frontends.access.key_fetching import KeysUnavailable, fetch
from ortolan.frontends.access.token_options import TokenOptions
from ortolan.inference.printable import printable

_LARGEST_FILE_BYTES = 1 << 20
_DISCOVERY = "/.well-known/openid-configuration"
_SHOWN = 256


class KeySource(Protocol):
    """``shown`` names it in the log."""

    @property
    def shown(self) -> str: ...

    def read(self, within_s: float) -> bytes:
        """The set of keys as it is now. Blocks. Raises KeysUnavailable."""
        ...


def key_source(options: TokenOptions) -> KeySource:
    """The one that the operator chose."""
    if options.has_key_file:
        return KeyFileSource(Path(options.keys))
    return KeyAddress(options.keys) if options.keys else Discovery(options.issuer)


class KeyFileSource:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.shown = str(path)

    def read(self, within_s: float) -> bytes:  # noqa: ARG002 - the file system knows no time
        try:
            with self._path.open("rb") as file:
                data = file.read(_LARGEST_FILE_BYTES + 1)
        except OSError as error:
            raise KeysUnavailable(f"{self.shown} cannot be read: {error.strerror}") from None
        if len(data) > _LARGEST_FILE_BYTES:
            raise KeysUnavailable(f"{self.shown} has more than {_LARGEST_FILE_BYTES >> 20} MiB")
        return data


class KeyAddress:
    def __init__(self, address: str) -> None:
        self._address = address
        self.shown = address.partition("?")[0]

    def read(self, within_s: float) -> bytes:
        return fetch(self._address, time.monotonic() + within_s)


class Discovery:
    """OpenID Connect Discovery 1.0 §4: the issuer's configuration says where the keys are."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self.shown = issuer.rstrip("/") + _DISCOVERY

    def read(self, within_s: float) -> bytes:
        # Asked anew each time: issuers move their keys.
        end_s = time.monotonic() + within_s
        return fetch(self._keys_address(fetch(self.shown, end_s)), end_s)

    def _keys_address(self, document: bytes) -> str:
        try:
            configuration = orjson.loads(document)
        except ValueError:
            configuration = None
        if not isinstance(configuration, dict):
            raise KeysUnavailable(f"{self.shown} is no JSON object")
        if configuration.get("issuer") != self._issuer:
            came = printable(str(configuration.get("issuer")), _SHOWN)
            raise KeysUnavailable(
                f"{self.shown} is of the issuer '{came}', and not of '{self._issuer}' letter by letter"
            )
        address = configuration.get("jwks_uri")
        if not isinstance(address, str):
            raise KeysUnavailable(f"{self.shown} has no jwks_uri")
        self._refuse_wrong(address)
        return address

    def _refuse_wrong(self, address: str) -> None:
        shown = printable(address, _SHOWN)
        try:
            refuse_wrong_address(address)
        except ValueError as error:
            raise KeysUnavailable(f"the jwks_uri '{shown}' of {self.shown} {error}") from None
        # Somebody else's document must not make this server ask its own machine.
        if is_loopback(address) and not is_loopback(self._issuer):
            raise KeysUnavailable(f"the jwks_uri '{shown}' of {self.shown} leads to this machine")
