"""What a verified token says, and what its holder may therefore do: a decision over its claims (pure)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ortolan.frontends.access.grants import Grant, parse_grant
from ortolan.frontends.access.token_options import TokenOptions
from ortolan.frontends.access.token_text import TokenRefused, json_object, shown
from ortolan.inference.printable import printable

_LONGEST_NAME = 128
_UNNAMED = "somebody"


@dataclass(frozen=True, slots=True)
class Accepted:
    """``until_s``: Unix time from which on the token does not count any more."""

    grant: Grant
    until_s: float


def judge(payload: bytes, now_s: float, options: TokenOptions) -> Accepted:
    """What a token with this verified ``payload`` is good for at the Unix time ``now_s``. Raises TokenRefused."""
    claims = json_object(payload, "content")
    if claims.get("iss") != options.issuer:
        raise TokenRefused(f"its issuer is {shown(claims.get('iss'))}, and not '{options.issuer}'")
    audience = claims.get("aud")
    if options.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefused(f"it is not for '{options.audience}'")
    if "cnf" in claims:
        # RFC 7800: who sends it must prove to hold a key, which nobody here would ask for.
        raise TokenRefused("it is bound to a key of its holder, which this server cannot check")
    until_s = _checked_times(claims, now_s, options.leeway_s)
    return Accepted(_grant(claims, options), until_s)


def _checked_times(claims: Mapping[str, Any], now_s: float, leeway_s: float) -> float:
    expires_s = _time_s(claims, "exp")
    if expires_s is None:
        raise TokenRefused("it does not say when it expires")
    if now_s >= expires_s + leeway_s:
        raise TokenRefused(f"it expired {now_s - expires_s:.0f} s ago")
    for name in ("nbf", "iat"):
        begins_s = _time_s(claims, name)
        if begins_s is not None and now_s < begins_s - leeway_s:
            raise TokenRefused(f"it is valid in {begins_s - now_s:.0f} s only ({name}); are the clocks right?")
    return expires_s + leeway_s


def _time_s(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefused(f"its {name} is no time")
    return float(value)


def _grant(claims: Mapping[str, Any], options: TokenOptions) -> Grant:
    """Scopes of other services are nothing to us; but whoever is given some of ours has these and no others."""
    prefix = options.scope_prefix
    ours = [text.removeprefix(prefix) for text in _scope_texts(claims, options) if text.startswith(prefix)]
    usable = [text for text in ours if _is_scope(text)]
    if usable:
        return parse_grant(_holder(claims, options), usable)
    if ours and prefix:
        raise TokenRefused(f"none of its scopes that begin with '{prefix}' is known here: {shown(' '.join(ours))}")
    # No scopes at all would be all of them.
    if not options.default_scopes:
        raise TokenRefused(f"it has no scope that begins with '{prefix}'")
    return parse_grant(_holder(claims, options), options.default_scopes)


def _scope_texts(claims: Mapping[str, Any], options: TokenOptions) -> list[str]:
    """Those of the first claim that is there: text parted by blanks (RFC 8693 §4.2), or a list."""
    name = next((name for name in options.scope_claims if claims.get(name) is not None), None)
    value = claims[name] if name is not None else []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    raise TokenRefused(f"its {name} is neither text nor a list of texts")


def _is_scope(text: str) -> bool:
    try:
        parse_grant("", [text])
    except ValueError:
        return False
    return True


def _holder(claims: Mapping[str, Any], options: TokenOptions) -> str:
    """Who it is in the log: no API key can have a name with a colon."""
    name = claims.get(options.name_claim)
    return f"jwt:{printable(name, _LONGEST_NAME) if isinstance(name, str) and name else _UNNAMED}"
