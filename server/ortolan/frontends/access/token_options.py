"""Whose tokens count, and what for: what the operator chose, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ortolan.errors import StartupError
from ortolan.frontends.access.grants import parse_grant
from ortolan.frontends.access.key_address import is_address, refuse_wrong_address

ALGORITHMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "RS256": ("RSA", ""),
        "RS384": ("RSA", ""),
        "RS512": ("RSA", ""),
        "PS256": ("RSA", ""),
        "PS384": ("RSA", ""),
        "PS512": ("RSA", ""),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    }
)
"""How tokens may be signed, and the type and curve of the only keys that verify that (RFC 7518 §3, RFC 8037)."""

DEFAULT_ALGORITHMS = ("RS256", "ES256", "EdDSA")
DEFAULT_SCOPES = ("infer", "read")
SCOPE_CLAIM = "scope"
SCOPE_PREFIX = "ortolan:"
NAME_CLAIM = "sub"


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Valid by existing: StartupError says which flag has what wrong.

    ``keys`` is a file's path, an address, or "" for where the issuer's own configuration says. A token that has none of
    ``scope_claims`` has ``default_scopes``; without such it is refused.
    """

    issuer: str
    audience: str
    keys: str = ""
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    scope_claims: tuple[str, ...] = (SCOPE_CLAIM, "scp")
    scope_prefix: str = SCOPE_PREFIX
    default_scopes: tuple[str, ...] = DEFAULT_SCOPES
    name_claim: str = NAME_CLAIM
    leeway_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise StartupError("--jwt-issuer and --jwt-audience are only of use together")
        if not self.name_claim or not all(self.scope_claims):
            raise StartupError("--jwt-scope-claim and --jwt-name-claim expect the name of a claim")
        self._refuse_wrong_keys()
        self._refuse_wrong_algorithms()
        self._refuse_wrong_scopes()

    @property
    def has_key_file(self) -> bool:
        return bool(self.keys) and not is_address(self.keys)

    def _refuse_wrong_keys(self) -> None:
        if self.has_key_file:
            return
        try:
            refuse_wrong_address(self.keys or self.issuer)
        except ValueError as error:
            flag, text = ("--jwt-keys", self.keys) if self.keys else ("--jwt-issuer", self.issuer)
            hint = "" if self.keys else ", or --jwt-keys must say where its keys are"
            raise StartupError(f"{flag}={text} {error}{hint}") from None

    def _refuse_wrong_algorithms(self) -> None:
        possible = ", ".join(ALGORITHMS)
        for name in self.algorithms:
            if name.lower() == "none" or name.upper().startswith("HS"):
                raise StartupError(
                    f"--jwt-algorithms: with {name}, whoever can read the keys could sign tokens; there are {possible}"
                )
            if name not in ALGORITHMS:
                raise StartupError(f"--jwt-algorithms: unknown algorithm '{name}'; there are {possible}")
        if not self.algorithms:
            raise StartupError(f"--jwt-algorithms expects one of {possible}, or several")

    def _refuse_wrong_scopes(self) -> None:
        try:
            parse_grant("", self.default_scopes)
        except ValueError as error:
            raise StartupError(f"--jwt-default-scopes: {error}; none: tokens without scopes are refused") from None


def require_library() -> None:
    """Raises StartupError when what verifies tokens is not installed."""
    try:
        import cryptography  # noqa: F401
        import jwt  # noqa: F401
    except ImportError:
        raise StartupError(
            "--jwt-issuer needs PyJWT and cryptography, which are not installed: pip install 'ortolan[oidc]'"
        ) from None
