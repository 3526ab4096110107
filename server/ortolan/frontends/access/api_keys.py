"""The file of those who may ask: API keys, of which only hashes are kept, and the names of clients' certificates.

Lines are ``NAME:sha256:HEX[:SCOPES]`` and ``NAME:certificate:IDENTITY[:SCOPES]``; SCOPES are parted by commas, and none
means all. An IDENTITY is one of the names in a client's certificate; in it and in the names of models a colon is %3A.
Blank lines, and those
that begin with #, are left out.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ortolan.errors import StartupError
from ortolan.frontends.access.grants import Grant, parse_grant
from ortolan.frontends.tls.identity import PeerIdentity

_log = logging.getLogger(__name__)

_LOOK_INTERVAL_S = 1.0
_MOST_BYTES = 16 << 20
_NAME = re.compile(r"[\w.@-]{1,64}")
_HEX = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_FORM = "NAME:sha256:HEX[:SCOPE,...] or NAME:certificate:IDENTITY[:SCOPE,...]"
_SAME = "'{}' has the same key or identity as '{}'"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a file of keys says: grants by the SHA-256 of their key, and by the name that a certificate proves."""

    by_hash: dict[bytes, tuple[bytes, Grant]] = field(default_factory=dict)
    by_identity: dict[str, Grant] = field(default_factory=dict)


def parse_key_file(text: str) -> KeyFile:
    """Raises ValueError, which names the line and never quotes what could be a key."""
    found = KeyFile()
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if (line := line.strip()) and not line.startswith("#"):
            try:
                _add(found, line, names)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return found


def _add(found: KeyFile, line: str, names: set[str]) -> None:
    name, kind, value, scopes = _parts(line)
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected {_FORM}; a NAME has up to 64 letters, digits and . _ - @")
    if name in names:
        raise ValueError(f"the name '{name}' is there twice; each key needs one of its own")
    names.add(name)
    grant = parse_grant(name, scopes)
    if kind == "sha256":
        if not _HEX.fullmatch(value):
            raise ValueError(
                f"the SHA-256 of '{name}' is not 64 hexadecimal digits; `ortolan api-key {name}` makes such a line"
            )
        digest = bytes.fromhex(value)
        if (other := found.by_hash.get(digest)) is not None:
            raise ValueError(_SAME.format(name, other[1].holder))
        found.by_hash[digest] = digest, grant
    elif kind == "certificate" and value:
        identity = unquote(value)
        if (same := found.by_identity.get(identity)) is not None:
            raise ValueError(_SAME.format(name, same.holder))
        found.by_identity[identity] = grant
    else:
        raise ValueError(f"expected {_FORM}")


def _parts(line: str) -> tuple[str, str, str, list[str]]:
    parts = [part.strip() for part in line.split(":")]
    if len(parts) not in (3, 4):
        raise ValueError(f"expected {_FORM}; there are {len(parts)} parts")
    scopes = [unquote(scope.strip()) for scope in parts[3].split(",")] if len(parts) == 4 else []
    # A forgotten scope must not come to all of them.
    if len(parts) == 4 and not all(scopes):
        raise ValueError("a scope is empty; leave out the last colon to allow everything")
    return parts[0], parts[1], parts[2], scopes


class ApiKeys:
    """The keys of a file, as it is now. Lives on the event loop."""

    def __init__(self, path: Path) -> None:
        """Raises StartupError for a file that cannot be read, or is not of its form."""
        self._path = path
        self._taken = self._seen = _facts(path)
        try:
            self._take(_read(path))
        except OSError as error:
            raise StartupError(f"--api-keys-file: {path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise StartupError(f"--api-keys-file: {error}") from None

    def find(self, key: str) -> Grant | None:
        """What the holder of ``key`` may do; None for a key that is not there.

        The time that it takes tells nothing of any key: what is looked up is a hash of it, by Python's hash of that,
        which has a secret of its own, and the last comparison takes as long for all.
        """
        digest = hashlib.sha256(key.encode()).digest()
        known = self._file.by_hash.get(digest)
        return known[1] if known is not None and hmac.compare_digest(known[0], digest) else None

    def find_identity(self, peer: PeerIdentity) -> Grant | None:
        """What the holder of a certificate may do: as the first of its names says that is in the file."""
        return next((self._file.by_identity[name] for name in peer.names if name in self._file.by_identity), None)

    async def keep(self) -> None:
        """Look at the file again and again, for ever. One that is wrong or gone changes nothing, and is told once."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Take what the file says now, if it has changed, and is as it was at the look before."""
        seen = await asyncio.to_thread(_facts, self._path)
        if seen == self._taken or seen != self._seen:
            # A file that is being written says less than it will, or more: a line that lacks its scopes has them all.
            self._seen = seen
            return
        try:
            found = await asyncio.to_thread(_read, self._path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            _log.error("the file of API keys has changed and cannot be taken: %s; the keys stay as they were", reason)
        else:
            self._take(found)
            _log.info("the file of API keys has changed: %d keys and certificates", self._count)
        self._taken = seen

    @property
    def _count(self) -> int:
        return len(self._file.by_hash) + len(self._file.by_identity)

    def _take(self, found: KeyFile) -> None:
        self._file = found
        if not self._count:
            _log.warning("the file of API keys has no keys: only what is open to everybody is answered")


def _facts(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does, or what a link leads to; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> KeyFile:
    """Raises OSError or ValueError."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    try:
        return parse_key_file(data.decode())
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def append_line(path: Path, line: str) -> None:
    """Put ``line`` at the end of the file of keys, which may be a new one. Raises ValueError where it cannot be."""
    try:
        text = path.read_text() if path.exists() else ""
        if text and not text.endswith("\n"):
            text += "\n"
        parse_key_file(text + line)
        beside = path.with_name(f".{path.name}.new")
        beside.touch(mode=0o600)
        beside.write_text(f"{text}{line}\n")
        os.replace(beside, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """A key that nobody has, and its line in the file. Raises ValueError for a name or scopes that cannot be."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    parts = [name, "sha256", hashlib.sha256(key.encode()).hexdigest()]
    chosen = [*scopes]
    if chosen:
        parts.append(",".join(chosen))
    line = ":".join(parts)
    parse_key_file(line)
    return key, line
