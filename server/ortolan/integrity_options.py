"""What the repository needs of the settings to verify and decrypt models, in its own words."""

from collections.abc import Mapping
from pathlib import Path

from ortolan.errors import StartupError
from ortolan.repository.encrypted_model import ModelKeys, parse_keys, read_key_file, require_library
from ortolan.repository.signatures import Signatures, Signers
from ortolan.settings import MODEL_KEY, Settings, model_key_texts


def signatures(settings: Settings) -> Signatures:
    """Raises StartupError when signatures are to be verified, and what that needs is not there."""
    signers = Signers(
        keys=[Path(path) for path in settings.model_signature_key],
        certificates=[Path(path) for path in settings.model_signature_certificate],
        identity=settings.model_signature_identity,
        issuer=settings.model_signature_issuer,
        trust=Path(settings.model_signature_trust) if settings.model_signature_trust else None,
    )
    return Signatures(settings.model_signature, signers)


def model_keys(settings: Settings, environment: Mapping[str, str]) -> ModelKeys:
    """The keys from files and from the environment. Raises StartupError, which shows nothing of them."""
    keys = [key for path in settings.model_key_file for key in read_key_file(Path(path))]
    if texts := model_key_texts(environment):
        try:
            keys += parse_keys(texts)
        except ValueError as error:
            raise StartupError(f"{MODEL_KEY} cannot be used: {error}") from None
    if keys:
        require_library()
    return ModelKeys(keys)
