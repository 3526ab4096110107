"""What a mirror holds, kept beside it: which tag each file had that was fetched, and how it lies on the disk."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ortolan.repository.file_names import stays_inside

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class MirroredFile:
    """A fetched file. Size and time are those on this machine's disk, by which tampering and accidents are noticed."""

    tag: str
    sha256: str
    size_bytes: int
    mtime_ns: int

    def describes(self, path: Path) -> bool:
        """Whether the file at ``path`` still lies there as it was put there."""
        try:
            status = path.lstat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


@dataclass(slots=True)
class MirrorState:
    """By path below the mirror's directory of files. Only the mirror's owner changes it."""

    files: dict[str, MirroredFile] = field(default_factory=dict)
    tags_are_hashes: bool = True

    def present(self, directory: Path) -> dict[str, str]:
        """Path → tag of each file that still lies below ``directory`` as it was put there; "" for one that does not."""
        return {path: file.tag if file.describes(directory / path) else "" for path, file in sorted(self.files.items())}

    def save(self, path: Path) -> None:
        """Write it whole or not at all. Raises OSError."""
        document = {"format": _FORMAT, "tags_are_hashes": self.tags_are_hashes, "files": {}}
        document["files"] = {name: asdict(file) for name, file in sorted(self.files.items())}
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("w") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def read_state(path: Path) -> MirrorState:
    """The state as it was saved; an empty one, so that everything is fetched anew, when it cannot be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        document = json.loads(path.read_bytes())
        if document["format"] == _FORMAT:
            files = {name: MirroredFile(**file) for name, file in document["files"].items() if stays_inside(name)}
            return MirrorState(files, bool(document["tags_are_hashes"]))
    return MirrorState()
