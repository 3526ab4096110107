"""The directory of compiled models that all servers of a user share: found, put in whole, and the oldest removed.

    DIRECTORY/v1/KEY/        one compiled model; a shared lock on it while a session has it mapped
    DIRECTORY/v1/tmp-*/      one that is being made, or removed; locked by who does that
    DIRECTORY/v1/locks/KEY   locked while somebody makes that one

Locks are of the kind that the system releases when their process ends, however it ends.
"""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ortolan.execution.compiled_entry import CompiledModel, Damaged, Refusal, read_entry, size_bytes
from ortolan.execution.compiled_key import CompiledKey

_FRESH, _TEMPORARY, _LOCKS = "new-", "tmp-", "locks"
_LOOK_S = 0.02


class NoRoom(OSError):
    """What is to be kept is larger than the disk or the operator lets it be."""


class Held:
    """A compiled model that nobody removes until it is released."""

    def __init__(self, model: CompiledModel, lock: int) -> None:
        self.model = model
        self._lock = lock

    def release(self) -> None:
        """May be called several times."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


class Workplace:
    """A directory in which a compiled model is made; it is gone afterwards, if the model was not put in."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def free_bytes(directory: Path) -> int:
    """The room on the file system of ``directory``. Raises OSError."""
    return shutil.disk_usage(directory).free


class CompiledStore:
    """All methods may be called from any thread, and raise OSError when the directory cannot be used."""

    def __init__(self, directory: Path, limit_bytes: int, free: Callable[[Path], int] = free_bytes) -> None:
        """``limit_bytes`` is for all files together; ``free`` tells how much more the disk takes."""
        self._root = directory / "v1"
        self.limit_bytes = limit_bytes
        self._free = free

    def find(self, key: CompiledKey) -> Held | Refusal | None:
        """What is known for ``key``. What turns out to be damaged is removed."""
        if not self._root.exists():
            return None
        self._require_private()
        folder = self._root / key.name
        lock = _locked(folder, exclusive=False)
        if lock is None:
            return None
        try:
            entry = read_entry(folder, key.text)
        except Damaged:
            os.close(lock)
            self.discard(key)
            return None
        if isinstance(entry, Refusal):
            os.close(lock)
            return entry
        # How long ago it was used last. Where the directory cannot be written nothing is removed either.
        with contextlib.suppress(OSError):
            os.utime(folder)
        return Held(entry, lock)

    def discard(self, key: CompiledKey) -> None:
        """Remove what there is for ``key``; who has it mapped keeps it in memory."""
        _remove(self._root / key.name)

    @contextmanager
    def turn(self, key: CompiledKey, wait_s: float) -> Iterator[bool]:
        """Whether nobody else, in any process, makes this one until the end of the block; waits that long for it."""
        self._create()
        path = self._root / _LOCKS / key.name
        lock = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            mine = _locked_within(lock, wait_s)
            yield mine
            if mine:
                # Who waits for it gets the one that has no name any more, and finds the model made.
                path.unlink(missing_ok=True)
        finally:
            os.close(lock)

    @contextmanager
    def workplace(self, model_bytes: int) -> Iterator[Workplace]:
        """Where to make a compiled model of so large a model. Raises NoRoom when it could not be kept."""
        self._create()
        self._remove_left_overs()
        # Weights are there twice: as the model has them and as the processor wants them.
        if model_bytes > self.limit_bytes or 2 * model_bytes + model_bytes // 8 > self._free(self._root):
            raise NoRoom(f"there is no room for a compiled model of {model_bytes >> 20} MiB")
        fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=self._root))
        lock = _locked(fresh, exclusive=True)
        if lock is None:
            fresh.rmdir()
            raise OSError("the file system has no locks")
        folder = fresh.rename(self._root / (_TEMPORARY + fresh.name.removeprefix(_FRESH)))
        place = Workplace(folder, lock)
        try:
            yield place
        finally:
            place.close()

    def admit(self, place: Workplace, key: CompiledKey) -> None:
        """Put in what was made, after making room for it; when somebody was faster theirs stays. Raises NoRoom."""
        self._make_room(size_bytes(place.folder))
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            _rename_if_free(place.folder, self._root / key.name)

    def _create(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_private()
        (self._root / _LOCKS).mkdir(mode=0o700, exist_ok=True)

    def _require_private(self) -> None:
        """What is mapped into the server must not be another user's to write, nor the models theirs to read."""
        status = self._root.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionError("it is a symbolic link or no directory")
        if sys.platform != "win32" and status.st_uid != os.geteuid():
            raise PermissionError("it belongs to another user")
        if status.st_mode & 0o077:
            raise PermissionError("others may enter it; chmod 700 takes that from them")

    def _make_room(self, wanted_bytes: int) -> None:
        """Remove what was used longest ago and is not in use, until so much more may be put in."""
        folders = sorted(self._entries(), key=_last_use)
        sizes = {folder: size_bytes(folder) for folder in folders}
        total = sum(sizes.values()) + wanted_bytes
        for folder in folders:
            if total <= self.limit_bytes:
                return
            lock = _locked(folder, exclusive=True)
            if lock is not None:
                _remove(folder)
                os.close(lock)
                total -= sizes[folder]
        if total > self.limit_bytes:
            raise NoRoom("everything in it is in use, and one more would be more than --compiled-cache-size allows")

    def _entries(self) -> list[Path]:
        others = (_FRESH, _TEMPORARY, _LOCKS)
        return [path for path in self._root.iterdir() if not path.name.startswith(others)]

    def _remove_left_overs(self) -> None:
        """Remove what was being made or removed when its process was killed."""
        for folder in self._root.glob(f"{_TEMPORARY}*"):
            lock = _locked(folder, exclusive=True)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _rename_if_free(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        # A directory with something in it is not replaced; ENOTEMPTY has no exception of its own.
        if target.exists():
            raise FileExistsError(str(target)) from error
        raise


def _remove(folder: Path) -> None:
    """Remove it at once for all who look, and then its files."""
    with contextlib.suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder.parent))
        with contextlib.suppress(OSError):
            folder.rename(aside / "removed")
        shutil.rmtree(aside, ignore_errors=True)


def _last_use(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0


def _locked(folder: Path, exclusive: bool) -> int | None:
    """The directory, open and locked; None when it is not there, or is locked otherwise by somebody."""
    if sys.platform == "win32":
        return None
    import fcntl

    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(opened, kind | fcntl.LOCK_NB)
        # It may have been renamed between the two calls.
        if os.path.samestat(os.fstat(opened), folder.lstat()):
            return opened
    except OSError:
        pass
    os.close(opened)
    return None


def _locked_within(lock: int, wait_s: float) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl

    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_S)
