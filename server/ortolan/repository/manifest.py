"""``SHA256SUMS``: what the files of a model must be, as ``sha256sum`` writes it; and refusing those that are not.

A manifest speaks for its directory and all below it, except for what a manifest further down speaks for. Under it a
file that is not listed is refused like one that differs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ortolan.errors import Incomplete, InvalidArgument
from ortolan.inference.printable import printable
from ortolan.repository.outside_text import NOT_SHOWN, line_of
from ortolan.repository.private_files import FileRefused, open_anywhere

MANIFEST = "SHA256SUMS"
ManifestRule = Literal["check", "require", "off"]

_LARGEST_BYTES = 16 << 20
_SHOWN = 80
# The hash, a blank, and a blank or an asterisk for "text" or "binary", which are the same here.
_LINE = re.compile(r"(?P<sha256>[0-9A-Fa-f]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The hashes of one ``SHA256SUMS`` by the names of files, relative to its directory."""

    directory: Path
    hashes: Mapping[str, str]
    may_be_shown: bool = True
    """Whether messages may quote it: not if a link leads to it from outside."""

    def speaks_for(self, file: Path) -> bool:
        return file.is_relative_to(self.directory)


@dataclass(frozen=True, slots=True)
class Manifests:
    """Those that speak for one version and its model, the nearest to the version's files first."""

    model_name: str
    found: Sequence[Manifest] = ()
    required: bool = False

    def check(self, file: Path, sha256: str) -> None:
        """Raises Incomplete when ``file``, whose hash is ``sha256``, is not what a manifest says.

        InvalidArgument when none speaks for it and one must.
        """
        manifest = next((each for each in self.found if each.speaks_for(file)), None)
        if manifest is None:
            if self.required:
                raise InvalidArgument(
                    f"model '{self.model_name}': no {MANIFEST} says what '{file.name}' must be, and "
                    f"--model-manifest=require wants one: run sha256sum on the model's files"
                )
            return
        name = file.relative_to(manifest.directory).as_posix()
        expected = manifest.hashes.get(name)
        if expected is None:
            raise Incomplete(f"model '{self.model_name}': '{printable(name, _SHOWN)}' is not in its {MANIFEST}")
        if expected != sha256:
            but = f": expected SHA-256 {expected}, got {sha256}" if manifest.may_be_shown else f"; {NOT_SHOWN}"
            raise Incomplete(
                f"model '{self.model_name}': '{printable(name, _SHOWN)}' is not what its {MANIFEST} says{but}"
            )


def read_manifests(
    model_name: str, directories: Sequence[Path], rule: ManifestRule, roots: Sequence[Path] = ()
) -> Manifests:
    """The manifests that stand in ``directories``, the version's before the model's, as ``rule`` wants them.

    Messages quote those that lie in ``directories`` or ``roots``, once links are followed. Raises InvalidArgument when
    one cannot be read or understood.
    """
    if rule == "off":
        return Manifests(model_name)
    found = [
        _read(directory, model_name, (*directories, *roots))
        for directory in dict.fromkeys(directories)
        # A link that leads nowhere is one as well: it fails, rather than that nothing is checked.
        if (directory / MANIFEST).exists() or (directory / MANIFEST).is_symlink()
    ]
    return Manifests(model_name, found, rule == "require")


def parse_manifest(text: str) -> Mapping[str, str]:
    """Hashes in lower case by names without ``./``. Raises ValueError saying what is wrong with which line."""
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not 64 hexadecimal digits, two blanks and a file's name")
        name, sha256 = str(PurePosixPath(found["name"])), found["sha256"].lower()
        if hashes.setdefault(name, sha256) != sha256:
            raise ValueError(f"line {number} contradicts an earlier line about '{printable(name, _SHOWN)}'")
    return hashes


def _read(directory: Path, model_name: str, roots: Sequence[Path]) -> Manifest:
    where = f"model '{model_name}': its {MANIFEST}"
    try:
        opened, may_be_shown = open_anywhere(directory / MANIFEST, roots)
        with opened as file:
            content = file.read(_LARGEST_BYTES + 1)
    except (FileRefused, OSError) as reason:
        raise InvalidArgument(f"{where} cannot be read") from reason
    if len(content) > _LARGEST_BYTES:
        raise InvalidArgument(f"{where} cannot be used: it is larger than {_LARGEST_BYTES} bytes")
    try:
        return Manifest(directory, parse_manifest(content.decode("utf-8")), may_be_shown)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{where} is not UTF-8 text") from error
    except ValueError as error:
        why = f": {error}" if may_be_shown else f"{line_of(str(error))}; {NOT_SHOWN}"
        raise InvalidArgument(f"{where} cannot be used{why}") from (error if may_be_shown else None)
