"""What settings of tokens must obey, so that nobody believes them to be checked otherwise than they are."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortolan.settings.chosen import Settings


def refuse_wrong_tokens(settings: "Settings") -> None:
    """Raises ValueError where somebody could believe that tokens are checked, or checked otherwise than they are."""
    if bool(settings.jwt_issuer) != bool(settings.jwt_audience):
        given, missing = ("issuer", "audience") if settings.jwt_issuer else ("audience", "issuer")
        raise ValueError(f"--jwt-{given} needs --jwt-{missing}: only what this issuer gave out for this server counts")
    if settings.jwt_issuer:
        return
    for name, field in type(settings).model_fields.items():
        if name.startswith("jwt_") and getattr(settings, name) != field.default:
            raise ValueError(f"--{name.replace('_', '-')} needs --jwt-issuer and --jwt-audience: no tokens are taken")
