"""Private directories of the server: for model files that clients sent, and for its own copies of models.

Each process has one directory for them, in the system's temporary one if not told otherwise, and holds a lock on it
while it lives, so that a later process knows the left-overs of a killed one.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ortolan.errors import Internal, Unavailable

_PREFIX = "ortolan-models-"
_UNLOCKED_PREFIX = "ortolan-new-"
# A directory is without its lock for a moment only.
_OLD_S = 60


class OverrideDirectories:
    """The directories of one process. All methods may be called from any thread."""

    def __init__(self, temporary: Path | None = None) -> None:
        """``temporary`` is where to put them, the system's temporary directory if it is not given."""
        self._temporary = temporary or Path(tempfile.gettempdir())
        self._lock = threading.Lock()
        self._own: Path | None = None
        self._own_lock = -1
        self._closed = False

    def build(self, files: Mapping[str, bytes]) -> Path:
        """A new directory with ``files``: contents by paths that stay inside. Raises Internal when it cannot be."""
        try:
            return _filled(self._new(), files)
        except OSError as error:
            raise Internal(
                f"the files that came with the load cannot be written: {error.strerror}. "
                "--model-copy-directory says where they go."
            ) from error

    def new(self) -> Path:
        """A new directory that is empty. Raises Internal when it cannot be made, Unavailable while the server stops."""
        try:
            return self._new()
        except OSError as error:
            raise Internal(
                f"the server cannot make a directory for its own copy of the model: {error.strerror}. "
                "--model-copy-directory says where those go."
            ) from error

    def _new(self) -> Path:
        with self._lock:
            if self._closed:
                raise Unavailable("the server is stopping and takes no files any more")
            if self._own is None:
                self._own, self._own_lock = _locked_directory(self._temporary)
            return Path(tempfile.mkdtemp(dir=self._own))

    def remove(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> None:
        """Remove everything, and make nothing any more."""
        with self._lock:
            self._closed = True
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)
                self._own = None
            if self._own_lock >= 0:
                os.close(self._own_lock)
                self._own_lock = -1

    def remove_left_overs(self) -> None:
        """Remove what processes of the same user left behind that were killed."""
        # Without locks of this kind nothing tells left-overs from what is in use.
        if sys.platform == "win32":
            return
        with contextlib.suppress(OSError):
            for directory in self._temporary.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(directory)
            for directory in self._temporary.glob(f"{_UNLOCKED_PREFIX}*"):
                with contextlib.suppress(OSError):
                    _remove_if_old(directory)


def _filled(directory: Path, files: Mapping[str, bytes]) -> Path:
    try:
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return directory


def _locked_directory(temporary: Path) -> tuple[Path, int]:
    """A new directory that only its user may enter, and the open file by which it is locked; -1 without locks."""
    fresh = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX, dir=temporary))
    lock = -1
    if sys.platform != "win32":
        lock = _lock(fresh)
    # It gets the name of what may be left over only now that it cannot be taken for that.
    return fresh.rename(temporary / (_PREFIX + fresh.name.removeprefix(_UNLOCKED_PREFIX))), lock


def _remove_if_abandoned(directory: Path) -> None:
    if sys.platform == "win32" or directory.lstat().st_uid != os.geteuid():
        return
    lock = _lock(directory)
    try:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_if_old(directory: Path) -> None:
    """Remove an empty directory whose maker was killed before it could be locked."""
    if time.time() - directory.lstat().st_mtime > _OLD_S:
        directory.rmdir()


def _lock(directory: Path) -> int:
    """The directory, open and locked until that is closed. Raises OSError when another holds it."""
    import fcntl  # there is none on Windows

    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened
