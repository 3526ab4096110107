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

from ortolan.errors import Internal

_CHUNK = 1 << 20
# linux/fs.h: give a file the blocks of another one, as btrfs, XFS and others can; copied when one of them is written.
_FICLONE = 0x40049409
_CHANGED = "changed while it was copied; load the model again once it is complete"

Watch = Callable[[bytes], None]
"""Is given a file's content, chunk by chunk, in its order."""


class FileRefused(Exception):
    """A file that is not taken: why, as the end of a sentence that begins with its name."""


def ignored(chunk: bytes) -> None:
    """A Watch for content that is of no further interest."""


def open_regular(path: Path) -> BinaryIO:
    """The file at ``path``, wherever its symbolic links lead. Raises FileRefused when it cannot be read."""
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for somebody to write to it.
        return _regular(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)))
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
            raise FileRefused("is a symbolic link that leads out of the model's directory; put the file itself there")
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


def copy_privately(source: BinaryIO, target: Path, watch: Watch = ignored) -> str:
    """Copy ``source``, from its beginning, to the new file ``target``; the SHA-256 of the copy in hexadecimal.

    Raises FileRefused when ``source`` changes or cannot be read meanwhile, Internal when the copy cannot be written.
    """
    before = os.fstat(source.fileno())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.open("x+b", buffering=0)
    except OSError as error:
        raise _not_written(error) from error
    with copy:
        if _shares_blocks(source, copy):
            # What was copied is looked at, not the original, which may have changed since.
            digest = _read_through(copy, watch)
        else:
            _require_room(copy, before.st_size)
            digest = _copied(source, copy, before.st_size, watch)
    after = os.fstat(source.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileRefused(_CHANGED)
    return digest


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of what is left of ``file`` in hexadecimal. Raises FileRefused when it cannot be read."""
    return _read_through(file, ignored)


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


def _read_through(file: BinaryIO, watch: Watch) -> str:
    sha256 = hashlib.sha256()
    for chunk in _chunks(file):
        sha256.update(chunk)
        watch(chunk)
    return sha256.hexdigest()


def _copied(source: BinaryIO, copy: BinaryIO, size_bytes: int, watch: Watch) -> str:
    sha256 = hashlib.sha256()
    for chunk in _chunks(source):
        size_bytes -= len(chunk)
        # One that grows as fast as it is read would otherwise fill the disk.
        if size_bytes < 0:
            raise FileRefused(_CHANGED)
        sha256.update(chunk)
        watch(chunk)
        try:
            _write(copy, chunk)
        except OSError as error:
            raise _not_written(error) from error
    return sha256.hexdigest()


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
        return FileRefused("is not there")
    reason = error.strerror if isinstance(error, OSError) else "its symbolic links lead in a circle"
    return FileRefused(f"cannot be read: {reason}")


def _not_written(error: OSError) -> Internal:
    return Internal(
        f"the server cannot make its own copy of the model: {error.strerror}. --model-copy-directory says where it "
        "keeps those, and needs room for all models that are loaded."
    )
