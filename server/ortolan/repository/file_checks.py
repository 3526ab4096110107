"""Everything that a load's files are compared with: the manifests beside them, and what was signed."""

from dataclasses import dataclass
from pathlib import Path

from ortolan.repository.manifest import Manifests
from ortolan.repository.signed_files import SignedFiles


@dataclass(frozen=True, slots=True)
class FileChecks:
    """``check`` is asked about every file that a load uses, with the hash of the bytes that it uses."""

    manifests: Manifests
    signed: SignedFiles | None = None

    @property
    def active(self) -> bool:
        """Whether any file could be refused."""
        return bool(self.manifests.found or self.manifests.required or self.signed)

    @property
    def speaks_for_all(self) -> bool:
        """Whether files outside the model's directory are to be checked as well, which refuses them."""
        return self.signed is not None or self.manifests.required

    def check(self, file: Path, sha256: str) -> None:
        """Raises InvalidArgument when ``file``, whose hash is ``sha256``, is not as it should be."""
        self.manifests.check(file, sha256)
        if self.signed is not None:
            self.signed.check(file, sha256)
