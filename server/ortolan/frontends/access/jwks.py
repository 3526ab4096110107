"""A set of public keys as issuers publish it (RFC 7517), and which of them verifies which token (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ortolan.frontends.access.token_options import ALGORITHMS
from ortolan.inference.printable import printable

_LEAST_RSA_BITS = 2048
_LONGEST_KID = 64
# What makes a key of each type. Private parts are never handed on.
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key. ``algorithms`` are those that it can verify: fixed by the key, whatever a token says."""

    kid: str | None
    algorithms: frozenset[str]
    public: Any

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's signature of ``signed``."""
        from jwt import get_algorithm_by_name

        return algorithm in self.algorithms and get_algorithm_by_name(algorithm).verify(signed, self.public, signature)


@dataclass(frozen=True, slots=True)
class KeySet:
    """``left_out`` says of the keys that cannot be used why."""

    keys: Sequence[TokenKey]
    left_out: Sequence[str] = ()

    def find(self, kid: str | None, algorithm: str) -> TokenKey | None:
        """The key of this id for ``algorithm``; without an id the only key for it, if there is only one."""
        suiting = [key for key in self.keys if algorithm in key.algorithms]
        if kid is None:
            return suiting[0] if len(suiting) == 1 else None
        return next((key for key in suiting if key.kid == kid), None)


def parse_key_set(document: bytes) -> KeySet:
    """Keys that cannot be used are left out. Raises ValueError, as a sentence's end, for what is no set of keys."""
    try:
        found = orjson.loads(document)
    except ValueError:
        raise ValueError("is no JSON") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("is no set of keys: a JSON object with a list 'keys'")
    keys, left_out = [], []
    for entry in entries:
        try:
            keys.append(_key(entry))
        except ValueError as error:
            left_out.append(f"{_named(entry)} {error}")
    return KeySet(tuple(keys), tuple(left_out))


def _key(entry: Any) -> TokenKey:
    """Raises ValueError for a key that does not verify tokens, or not safely."""
    if not isinstance(entry, dict):
        raise ValueError("is no JSON object")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("has a kid that is no text")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("is not for signatures")
    if "d" in entry:
        raise ValueError("is a private key: whoever could read it can sign tokens; publish it without d")
    algorithms = _algorithms(entry)
    return TokenKey(kid, algorithms, _public_key(entry, min(algorithms)))


def _algorithms(entry: Mapping[str, Any]) -> frozenset[str]:
    kind = (entry.get("kty"), entry.get("crv", "") if entry.get("kty") != "RSA" else "")
    possible = {name for name, needed in ALGORITHMS.items() if needed == kind}
    if "alg" in entry:
        possible &= {name for name in ALGORITHMS if name == entry["alg"]}
    if not possible:
        raise ValueError("is of no type that verifies tokens here")
    return frozenset(possible)


def _public_key(entry: Mapping[str, Any], algorithm: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from jwt import PyJWK, PyJWTError

    members = {name: entry.get(name) for name in ("kty", *_MEMBERS[entry["kty"]])}
    try:
        public = PyJWK(members, algorithm).key
    except (PyJWTError, UnsupportedAlgorithm, TypeError, ValueError):
        raise ValueError("is damaged, or of a kind that cryptography does not have here") from None
    if entry["kty"] == "RSA" and public.key_size < _LEAST_RSA_BITS:
        raise ValueError(f"has {public.key_size} bits, where {_LEAST_RSA_BITS} are the least (RFC 7518 §3.3)")
    return public


def _named(entry: Any) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"'{printable(kid, _LONGEST_KID)}'" if isinstance(kid, str) else "one without a kid"
