"""Reading a model's files so that nothing else is read by mistake, and copying them to where no one changes them.

What is opened is a regular file, whose name leads to no place outside a directory by way of symbolic links. A copy
shares its blocks with the original where the file system can do that.
"""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ortolan.errors import Incomplete, Internal, InvalidArgument

_CHUNK = 1 << 20
# stat(2) counts in these, whatever the file system's own are.
_BLOCK = 512
_SPARSE_BYTES = 1 << 30
# Labels, warm-up data, initial states: what is larger is another file by mistake, or there to take up memory.
_LARGEST_COMPANION_BYTES = 1 << 30
# linux/fs.h: give a file the blocks of another one, as btrfs, XFS and others can; copied when one of them is written.
_FICLONE = 0x40049409
_CHANGED = "changed while it was copied; load the model again once it is complete"

Watch = Callable[[bytes], None]
"""Is given a file's content, chunk by chunk, in its order."""

Known = Callable[[os.stat_result], str | None]
"""The SHA-256 of a file that is in this state, where it was computed before and is sure to be that still."""


class FileRefused(Exception):
    """A file that is not taken: why, as the end of a sentence that begins with its name."""

    kind: type[InvalidArgument] = InvalidArgument
    """Of the error that it makes a load fail with."""


class FileUnfinished(FileRefused):
    """A file that is not there, or is being written."""

    kind = Incomplete


class LeadsOut(FileRefused):
    """A file that symbolic links lead to, out of where it has to be."""


def ignored(chunk: bytes) -> None:
    """A Watch for content that is of no further interest."""


def unknown(state: os.stat_result) -> None:
    """A Known that knows nothing."""


def open_regular(path: Path) -> BinaryIO:
    """The file at ``path``, wherever its symbolic links lead. Raises FileRefused when it cannot be read."""
    try:
        # To open some devices is to do something to them; the second look is for who swaps the file meanwhile.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "not a regular file")
        # Without O_NONBLOCK the opening of a pipe would wait for somebody to write to it.
        flags = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
        return _regular(os.open(path, os.O_RDONLY | flags))
    except OSError as error:
        raise _not_readable(error) from error


def open_inside(path: Path, roots: Sequence[Path], allow_hard_links: bool = True) -> BinaryIO:
    """The file at ``path``, whose symbolic links have to stay within one of the directories ``roots``.

    Raises FileRefused when they do not, when it cannot be read, or when it has further names and may not.
    """
    try:
        real = path.resolve(strict=True)
        root = next((root for each in roots if real.is_relative_to(root := each.resolve())), None)
        if root is None:
            raise LeadsOut("is a symbolic link that leads out of the model's directory; put the file itself there")
        file = _open_below(root, real.relative_to(root).parts)
    # Python before 3.13 raises RuntimeError for a loop of symbolic links.
    except (OSError, RuntimeError) as error:
        raise _not_readable(error) from error
    if not allow_hard_links and os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise FileRefused(
            "has further names (hard links), which --external-data-hard-links=refuse forbids; put a copy there"
        )
    return file


def open_anywhere(path: Path, roots: Sequence[Path]) -> tuple[BinaryIO, bool]:
    """The file at ``path``, wherever its symbolic links lead, and whether that is in one of the directories ``roots``.

    Raises FileRefused when it cannot be read.
    """
    try:
        return open_inside(path, roots), True
    except LeadsOut:
        return open_regular(path), False


def read_inside(path: Path, root: Path, most_bytes: int = _LARGEST_COMPANION_BYTES) -> bytes:
    """The content of the file at ``path``, whose symbolic links have to stay within ``root``.

    Raises FileRefused when they do not, when it cannot be read, or when it is larger than ``most_bytes``.
    """
    with open_inside(path, (root,)) as file:
        return content_of(file, most_bytes)


def copy_privately(source: BinaryIO, target: Path, watch: Watch = ignored, known: Known = unknown) -> str:
    """Copy ``source``, from its beginning, to the new file ``target``; the SHA-256 of the copy in hexadecimal.

    Raises FileRefused when ``source`` changes or cannot be read meanwhile, Internal when the copy cannot be written.
    """
    before = os.fstat(source.fileno())
    hasher = _Hasher(known(before))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.open("x+b", buffering=0)
    except OSError as error:
        raise _not_written(error) from error
    with copy:
        if _is_sparse(before):
            # What is not there takes no room until it is read, which would go on for as long as the file is long.
            _require_room(copy, before.st_size)
        if _shares_blocks(source, copy):
            # What was copied is looked at, not the original, which may have changed since.
            if hasher.wants_all or watch is not ignored:
                _read_through(copy, hasher, watch)
        else:
            _require_room(copy, before.st_size)
            _copy(source, copy, before.st_size, hasher, watch)
    after = os.fstat(source.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileUnfinished(_CHANGED)
    # Who knows a hash by the file's state knows nothing of one that has changed since.
    if not hasher.wants_all and before.st_ctime_ns != after.st_ctime_ns:
        raise FileUnfinished(_CHANGED)
    return hasher.hexdigest()


def read_small(path: Path, most_bytes: int) -> bytes:
    """The file at ``path``, wherever its links lead. Raises FileRefused when it cannot be read or is larger."""
    with open_regular(path) as file:
        return content_of(file, most_bytes)


def content_of(file: BinaryIO, most_bytes: int) -> bytes:
    """What is left of ``file``. Raises FileRefused when it cannot be read or is larger than ``most_bytes``."""
    # A sparse file has any size for nothing.
    if os.fstat(file.fileno()).st_size > most_bytes:
        raise FileRefused(f"is larger than {most_bytes} bytes")
    content = bytearray()
    # Chunk by chunk: a read of all that is allowed would have memory for all of that.
    for chunk in _chunks(file):
        content += chunk
        # It may have grown meanwhile.
        if len(content) > most_bytes:
            raise FileRefused(f"is larger than {most_bytes} bytes")
    return bytes(content)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of what is left of ``file`` in hexadecimal. Raises FileRefused when it cannot be read."""
    hasher = _Hasher(None)
    _read_through(file, hasher, ignored)
    return hasher.hexdigest()


class _Hasher:
    """A SHA-256 in the making; one that is known already takes no time."""

    def __init__(self, known: str | None) -> None:
        self._known = known
        self._sha256 = hashlib.sha256()

    @property
    def wants_all(self) -> bool:
        return self._known is None

    def update(self, chunk: bytes) -> None:
        if self._known is None:
            self._sha256.update(chunk)

    def hexdigest(self) -> str:
        return self._known or self._sha256.hexdigest()


def _is_sparse(status: os.stat_result) -> bool:
    """Whether much of the file is not there, and reads as zeros."""
    return status.st_size - getattr(status, "st_blocks", status.st_size) * _BLOCK > _SPARSE_BYTES


def _regular(descriptor: int) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _open_below(root: Path, names: Sequence[str]) -> BinaryIO:
    """The file at ``names`` below ``root``, none of which may have become a symbolic link."""
    if sys.platform == "win32":
        return open_regular(root.joinpath(*names))
    flags = os.O_RDONLY | os.O_NOFOLLOW
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in names[:-1]:
        above = directory
        try:
            directory = os.open(name, flags | os.O_DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
    try:
        return _regular(os.open(names[-1] if names else ".", flags | os.O_NONBLOCK, dir_fd=directory))
    finally:
        os.close(directory)


def _shares_blocks(source: BinaryIO, copy: BinaryIO) -> bool:
    """Whether ``copy`` now has the blocks of ``source``: both are on one file system, and it can do that."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _require_room(copy: BinaryIO, size_bytes: int) -> None:
    """Raises Internal when the file system lacks room now: the last byte is better left to others."""
    if sys.platform == "win32":
        return
    room = os.fstatvfs(copy.fileno())
    if room.f_bavail * room.f_frsize < size_bytes:
        raise _not_written(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def _read_through(file: BinaryIO, hasher: _Hasher, watch: Watch) -> None:
    for chunk in _chunks(file):
        hasher.update(chunk)
        watch(chunk)


def _copy(source: BinaryIO, copy: BinaryIO, size_bytes: int, hasher: _Hasher, watch: Watch) -> None:
    for chunk in _chunks(source):
        size_bytes -= len(chunk)
        # One that grows as fast as it is read would otherwise fill the disk.
        if size_bytes < 0:
            raise FileUnfinished(_CHANGED)
        hasher.update(chunk)
        watch(chunk)
        try:
            _write(copy, chunk)
        except OSError as error:
            raise _not_written(error) from error


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    # Read, not mapped: a mapped file that shrinks meanwhile kills the process.
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise _not_readable(error) from error


def _write(copy: BinaryIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[copy.write(left) :]


def _not_readable(error: OSError | RuntimeError) -> FileRefused:
    if isinstance(error, FileNotFoundError):
        return FileUnfinished("is not there")
    reason = error.strerror if isinstance(error, OSError) else "its symbolic links lead in a circle"
    return FileRefused(f"cannot be read: {reason}")


def _not_written(error: OSError) -> Internal:
    return Internal(
        f"the server cannot make its own copy of the model: {error.strerror}. --model-copy-directory says where it "
        "keeps those, and needs room for all models that are loaded."
    )
