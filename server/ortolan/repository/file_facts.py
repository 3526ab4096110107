"""What the file system says of a model's files without their being read: the fingerprint by which changes are seen."""

import errno
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MOST_ENTRIES = 100_000
_MOST_DIRECTORIES = 2048
_MOST_DEPTH = 64


class FileFact(NamedTuple):
    """What the file system says of one file without its being read.

    A size and a modification time can be kept through a change, by a tool or within one tick of the clock; the time of
    the last change to the inode and the inode's number cannot both be. They change without the content, too: who must
    know whether that is another compares hashes (``file_contents``).
    """

    path: str
    """Relative to the model's directory, with slashes."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0


Fingerprint = tuple[FileFact, ...]
"""The facts of each file, sorted by path."""


def visible_entries(directory: Path) -> Iterator[Path]:
    """What is in ``directory`` and not hidden, in no order."""
    return (path for path in directory.iterdir() if not path.name.startswith("."))


def fingerprint(directory: Path) -> Fingerprint:
    """Every file below ``directory`` that is not hidden; symbolic links are followed, but not in circles.

    Raises OSError when it does not come to an end.
    """
    return tuple(sorted(_Walk(directory).facts(directory)))


def loose_fingerprint(file: Path) -> Fingerprint:
    """A bare model file and what stands beside it under its name, such as ``digits.onnx_data``."""
    if file.is_dir():
        return fingerprint(file)
    siblings = (path for path in visible_entries(file.parent) if path.suffix != ".onnx" or path == file)
    related = (path for path in siblings if path.name.startswith(f"{file.stem}."))
    return tuple(sorted(fact for path in related if (fact := _fact(path, file.parent))))


class _Walk:
    """Through one model's directory. A few symbolic links can make more ways through it than anyone could go."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entries_left = _MOST_ENTRIES
        self._directories_left = _MOST_DIRECTORIES

    def facts(self, directory: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[FileFact]:
        try:
            status = directory.stat()
            entries = list(visible_entries(directory))
        except OSError:
            return  # It went away while we looked, or may not be read: what is in it is not part of the model now.
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # A symbolic link to a directory that we are in.
            return
        self._count(len(entries), len(above))
        for path in entries:
            fact = _fact(path, self._root)
            if fact is not None:
                yield fact
            else:
                yield from self.facts(path, (*above, identity))

    def _count(self, entries: int, depth: int) -> None:
        self._entries_left -= entries
        self._directories_left -= 1
        if self._entries_left < 0 or self._directories_left < 0 or depth > _MOST_DEPTH:
            raise OSError(
                errno.ELOOP,
                f"it has more than {_MOST_ENTRIES} files, {_MOST_DIRECTORIES} directories or {_MOST_DEPTH} levels of "
                "them, each counted once for every way that symbolic links lead to it",
            )


def _fact(path: Path, root: Path) -> FileFact | None:
    """The facts of a file; None for what is no regular file, or not there any more."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileFact(
        path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    )
