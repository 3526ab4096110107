"""Whose tokens count, as the settings have it."""

from ortolan.frontends.access.token_options import SCOPE_CLAIM, TokenOptions
from ortolan.settings import Settings


def token_options(settings: Settings) -> TokenOptions | None:
    """None where no tokens are taken. Raises StartupError for what is not of its form."""
    if not settings.jwt_issuer:
        return None
    claim = settings.jwt_scope_claim
    return TokenOptions(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        keys=settings.jwt_keys,
        algorithms=_parts(settings.jwt_algorithms),
        # Half of the issuers call it one way and half the other; whoever names one means that.
        scope_claims=(claim, "scp") if claim == SCOPE_CLAIM else (claim,),
        scope_prefix=settings.jwt_scope_prefix,
        default_scopes=() if settings.jwt_default_scopes == "none" else _named_scopes(settings.jwt_default_scopes),
        name_claim=settings.jwt_name_claim,
    )


def _named_scopes(text: str) -> tuple[str, ...]:
    # An empty text is a scope that there is not: none would be all of them elsewhere, so it is to be said.
    return _parts(text) or ("",)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
