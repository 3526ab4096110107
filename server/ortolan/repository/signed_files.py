"""``model.sig``: which files of a model its signer vouches for; and refusing all others.

It stands in the model's directory and speaks for all in it; of a loose ``digits.onnx`` it is ``digits.onnx.sig``. What
is signed must be there as far as it decides what is loaded: taking a configuration, a version or golden requests away
changes a model as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ortolan.errors import InvalidArgument
from ortolan.inference.printable import printable
from ortolan.repository.file_names import is_golden_directory
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.outside_text import NOT_SHOWN
from ortolan.repository.private_files import FileRefused, content_of, open_anywhere
from ortolan.repository.signatures import WHOLE, NotVerified, Signatures

SIGNATURE = "model.sig"

_LARGEST_BYTES = 16 << 20
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a signature that counts vouches for: hashes by names relative to ``root``; "." is ``root`` itself."""

    model_name: str
    root: Path
    hashes: Mapping[str, str]
    may_be_shown: bool = True
    """Whether messages may quote it: not if a link leads to it from outside."""

    def check(self, file: Path, sha256: str) -> None:
        """Raises InvalidArgument when ``file``, whose hash is ``sha256``, is not what was signed."""
        if not file.is_relative_to(self.root):
            raise InvalidArgument(
                f"model '{self.model_name}': '{printable(file.name, _SHOWN)}' is not in the model's directory, so that "
                f"its {SIGNATURE} cannot speak for it; put it there and sign the model again"
            )
        name = file.relative_to(self.root).as_posix()
        shown = printable(file.name if name == WHOLE else name, _SHOWN)
        signed = self.hashes.get(name)
        if signed is None:
            raise InvalidArgument(f"model '{self.model_name}': '{shown}' is not signed; sign the model again")
        if signed != sha256:
            but = f": expected SHA-256 {signed}, got {sha256}" if self.may_be_shown else f"; {NOT_SHOWN}"
            raise InvalidArgument(f"model '{self.model_name}': '{shown}' is not what was signed{but}")

    def refuse_missing(self) -> None:
        """Raises InvalidArgument when something that decides what is loaded was signed and is not there."""
        for name in sorted(self.hashes):
            if _decides(name) and not (self.root / name).is_file():
                what = f"'{printable(name, _SHOWN)}'" if self.may_be_shown else "a file"
                but = "" if self.may_be_shown else f"; {NOT_SHOWN}"
                raise InvalidArgument(
                    f"model '{self.model_name}': {what} was signed and is not there; put it back, or sign the model "
                    f"again{but}"
                )


def read_signed_files(entry: ModelEntry, signatures: Signatures) -> SignedFiles | None:
    """What is signed of the model; None where nothing is and nothing need be.

    Raises InvalidArgument when there should be a signature, or when there is one that does not count.
    """
    if signatures.rule == "off":
        return None
    found = next((place for place in _places(entry) if _is_there(place[0])), None)
    if found is None:
        if signatures.required:
            raise InvalidArgument(
                f"model '{entry.name}' is not signed, and --model-signature=require wants a {SIGNATURE}: sign it with "
                "model_signing sign key"
            )
        return None
    path, root = found
    where = f"model '{entry.name}': its signature {path.name}"
    try:
        file, may_be_shown = open_anywhere(path, (path.parent, entry.directory, entry.repository))
        with file:
            content = content_of(file, _LARGEST_BYTES)
    except FileRefused as reason:
        raise InvalidArgument(f"{where} {reason}") from reason
    try:
        signed = SignedFiles(entry.name, root, signatures.hashes(content), may_be_shown)
    except NotVerified as reason:
        if may_be_shown:
            raise InvalidArgument(f"{where} {reason}") from reason
        # What the library says may quote what it was to verify.
        raise InvalidArgument(f"{where} is not by a signer whom this server trusts; {NOT_SHOWN}") from None
    signed.refuse_missing()
    return signed


def _places(entry: ModelEntry) -> list[tuple[Path, Path]]:
    """Where a signature of the model may be, each with what its names are relative to."""
    bare = entry.versions[0].model_file if entry.versions else None
    if bare is None:
        return [(entry.directory / SIGNATURE, entry.directory)]
    if bare.is_dir():
        return [(bare / SIGNATURE, bare)]
    places = [(bare.with_name(f"{bare.name}.sig"), bare)]
    # Other loose models may share the directory, unless it is the repository's only one.
    if bare.name == "model.onnx":
        places.append((entry.directory / SIGNATURE, entry.directory))
    return places


def _is_there(path: Path) -> bool:
    # A link that leads nowhere is a signature as well: it fails, rather than that nothing is verified.
    return path.exists() or path.is_symlink()


def _decides(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ("config.pbtxt", "configs") or name.endswith(".onnx") or any(map(is_golden_directory, parts))
