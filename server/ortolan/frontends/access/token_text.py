"""A signed token taken apart, as RFC 7515 and RFC 7519 write it; nothing in it is believed yet (pure)."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ortolan.inference.printable import printable

_SHOWN = 64
_FORM = re.compile(r"([A-Za-z0-9_-]++)\.([A-Za-z0-9_-]++)\.([A-Za-z0-9_-]++)")
# Tokens of other kinds may have the same issuer and audience: those that end sessions, or prove the holding of a key.
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


class TokenRefused(Exception):
    """Why a token does not count, for the log: nothing of the token that could be used."""


@dataclass(frozen=True, slots=True)
class SignedText:
    """``signed`` is what ``signature`` is of. What else a header may say, such as a key or its address, is left out."""

    algorithm: str
    kid: str | None
    payload: bytes
    signed: bytes
    signature: bytes


def parse_token(text: str, algorithms: Sequence[str]) -> SignedText:
    """Raises TokenRefused for what is no token, or is signed by none of ``algorithms``."""
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise TokenRefused("it is not of the form of signed tokens")
    header = json_object(_decoded(parts[1]), "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefused(f"it is signed by {shown(algorithm)}, and not by one of {', '.join(algorithms)}")
    if kid is not None and not isinstance(kid, str):
        raise TokenRefused("its key's id is no text")
    if "crit" in header:
        raise TokenRefused("it needs extensions that this server does not have")
    if str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise TokenRefused(f"it is a token of another type: {shown(header['typ'])}")
    signed = f"{parts[1]}.{parts[2]}".encode()
    return SignedText(algorithm, kid, _decoded(parts[2]), signed, _decoded(parts[3]))


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Raises TokenRefused for what is no JSON object."""
    try:
        found = orjson.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TokenRefused(f"its {what} is no JSON object")
    return found


def shown(value: object) -> str:
    """What came in a token as it may stand in the log."""
    return f"'{printable(value, _SHOWN)}'" if isinstance(value, str) else f"no text, but {type(value).__name__}"


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenRefused("one of its parts is no base64url") from None
