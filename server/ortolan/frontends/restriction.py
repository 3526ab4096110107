"""Groups of routes and methods that only answer requests with a certain header, as Triton has them.

``CATEGORY[,CATEGORY…]:KEY=VALUE``; REST and gRPC have the same categories.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ortolan.errors import Restricted, StartupError

CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
"""Triton's names for the parts of its protocol."""

# Tokens of RFC 9110; in gRPC the characters of metadata keys, of which those in "-bin" carry bytes.
_HTTP_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_GRPC_NAME = re.compile(r"(?!.*-bin$)[0-9A-Za-z_.-]+", re.IGNORECASE)

Header = Callable[[str], str | None]
"""The value of a request's header by its lower-case name; None where there is none."""


@dataclass(frozen=True, slots=True)
class RequiredHeader:
    """What a request must carry. ``name`` is what messages say; headers are looked up in lower case."""

    name: str
    value: str


class Restrictions:
    """Which category needs which header."""

    def __init__(self, what: str, required: Mapping[str, RequiredHeader]) -> None:
        """``what`` is what a category belongs to, in messages: ``API`` or ``protocol``."""
        self._what = what
        self._required = dict(required)

    def __bool__(self) -> bool:
        return bool(self._required)

    def header_of(self, category: str | None) -> str | None:
        """The name of the header that ``category`` needs; None where it needs none."""
        required = self._required.get(category or "")
        return required.name if required else None

    @property
    def headers(self) -> frozenset[str]:
        """The names of all headers that categories need: what they hold are secrets."""
        return frozenset(required.name for required in self._required.values())

    def check(self, category: str, header: Header) -> None:
        """Raises Restricted when ``category`` needs a header that the request does not have, or has otherwise."""
        required = self._required.get(category)
        if required is None:
            return
        given = header(required.name.lower()) or ""
        # In constant time, so that answers do not tell how much of the value was right.
        if not hmac.compare_digest(given.encode(), required.value.encode()):
            raise Restricted(f"This {self._what} is restricted, expecting header '{required.name}'")


NO_RESTRICTIONS = Restrictions("API", {})


def http_restrictions(texts: Iterable[str]) -> Restrictions:
    """From the values of ``--http-restricted-api``. Raises StartupError for what is not of its form."""
    return Restrictions("API", _parsed(texts, "--http-restricted-api", "", _HTTP_NAME))


def grpc_restrictions(texts: Iterable[str]) -> Restrictions:
    """From the values of ``--grpc-restricted-protocol``; the header is ``triton-grpc-protocol-KEY``."""
    flag, prefix = "--grpc-restricted-protocol", "triton-grpc-protocol-"
    return Restrictions("protocol", _parsed(texts, flag, prefix, _GRPC_NAME))


def _parsed(texts: Iterable[str], flag: str, prefix: str, possible_name: re.Pattern[str]) -> dict[str, RequiredHeader]:
    required: dict[str, RequiredHeader] = {}
    for text in texts:
        names, colon, pair = text.partition(":")
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (colon and key and equals and value):
            raise StartupError(f"{flag}: expected CATEGORY[,CATEGORY...]:KEY=VALUE, with no part empty")
        if not possible_name.fullmatch(key):
            raise StartupError(f"{flag}: no client can send a header called '{key}' as text; take another name")
        if not (value.isascii() and value.isprintable()):
            raise StartupError(f"{flag}: the value of '{key}' must be printable ASCII, or no client's would be equal")
        for name in (part.strip() for part in names.split(",")):
            if name not in CATEGORIES:
                raise StartupError(f"{flag}: unknown category '{name}'; there are {', '.join(CATEGORIES)}")
            if name in required:
                raise StartupError(f"{flag}: the category '{name}' is given twice; each may need one header only")
            required[name] = RequiredHeader(prefix + key, value)
    return required
