"""What must be true of models' files before they are loaded."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field


class IntegritySettings(BaseModel):
    """What must be true of models' files before they are loaded."""

    model_copy_directory: str = Field(
        "",
        description="Where the server keeps its own copies of models while they are loaded; the system's temporary "
        "directory if not given. On the repository's file system they may share its blocks.",
    )
    external_data_hard_links: Literal["allow", "refuse"] = Field(
        "allow", description="Whether files with external data may have further names, which may be anywhere."
    )
    model_manifest: Literal["check", "require", "off"] = Field(
        "check", description="Whether models' files are compared with SHA256SUMS beside them; require: it must be."
    )
    golden_requests: Literal["check", "require", "off"] = Field(
        "check", description="Whether models are tried with test_data_set_* beside them; require: these must be there."
    )
    model_signature: Literal["off", "check", "require"] = Field(
        "off",
        description="Whether models are compared with what was signed in model.sig beside them; require: it must be.",
    )
    model_signature_key: tuple[str, ...] = Field(
        (), description="A file with the public key of somebody who may sign models. May be given several times."
    )
    model_signature_certificate: tuple[str, ...] = Field(
        (), description="A file with certificates of those who certify signers of models. May be given several times."
    )
    model_signature_identity: str = Field(
        "", description="Who may sign models by sigstore, such as an e-mail address or a workflow's address."
    )
    model_signature_issuer: str = Field("", description="Who vouches for that identity: an OpenID Connect issuer.")
    model_signature_trust: str = Field(
        "", description="The file with sigstore's ClientTrustConfig, by which such signatures are verified."
    )
    model_key_file: tuple[str, ...] = Field(
        (),
        description="A file with keys of encrypted models, one a line; ORTOLAN_MODEL_KEY may hold keys as well. "
        "May be given several times.",
    )

    @property
    def model_copies(self) -> Path | None:
        return Path(self.model_copy_directory) if self.model_copy_directory else None
