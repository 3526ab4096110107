"""A mirror on the disk.

<home>/files/<name>      the repository, the model's directory or its .onnx file
<home>/partial/          downloads that are not complete
<home>/state.json        what was fetched, and which tags it had
<home>/lock              held by the process that brings the mirror up to date
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ortolan.repository.model_directory import is_version_name
from ortolan.repository.sources.download import Fetched
from ortolan.repository.sources.mirror_state import MirroredFile, MirrorState, read_state
from ortolan.repository.sources.remote_file import Stopped

_LOOK_FOR_LOCK_S = 0.1


class MirrorFiles:
    """What is fetched to, and what is served from. Everything raises OSError when the disk does not do its part.

    Paths are relative to ``root`` where that is a directory, and where it is a file to the directory it is in.
    """

    def __init__(self, home: Path, name: str) -> None:
        """``name`` is what the directory or file that is served is called."""
        self.home = home
        self.root = home / "files" / name
        self.partial = home / "partial"
        self._files = home / "files"
        self._lock = threading.Lock()
        self._state = MirrorState()
        self._top = ""

    @property
    def tags_are_hashes(self) -> bool:
        """Whether no ETag was found that is not the hash it looks like."""
        return self._state.tags_are_hashes

    @contextlib.contextmanager
    def exclusively(self, stopping: threading.Event) -> Iterator[None]:
        """While no other thread and no other process changes the mirror. Raises Stopped when it waits too long."""
        with self._lock:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.mkdir(exist_ok=True)
            with _locked(self.home / "lock", stopping):
                # Another process may have changed it.
                self._state = read_state(self.home / "state.json")
                yield

    def be_file(self) -> None:
        """Hold a file, and those that belong to it; what was there as a directory goes."""
        self._be("", [path for path in self._state.files if "/" in path])
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def be_directory(self) -> None:
        """Hold a directory; what was there as a file goes."""
        self._be(f"{self.root.name}/", [path for path in self._state.files if "/" not in path])
        self.root.mkdir(exist_ok=True)

    def _be(self, top: str, others: Sequence[str]) -> None:
        self._top = ""
        for path in others:
            self._remove(path)
        self._top = top

    def present(self) -> Mapping[str, str]:
        """Path → tag of what is there; "" for what is not there any more as it was fetched."""
        present = self._state.present(self._files)
        return {path.removeprefix(self._top): tag for path, tag in present.items()}

    def make_version(self, version: str) -> None:
        """A directory for a version whose files are not fetched."""
        (self.root / version).mkdir(parents=True, exist_ok=True)

    def remove_empty_versions(self, kept: Collection[str]) -> None:
        """The directories of versions in which nothing is, and that are not among ``kept``: they are there no more."""
        for directory in (*self.root.glob("*"), *self.root.glob("*/*")):
            if is_version_name(directory.name) and directory.relative_to(self.root).as_posix() not in kept:
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def free_bytes(self) -> int:
        """How much more can be fetched; what has arrived of it does not count."""
        there = sum(path.stat().st_size for path in self.partial.glob("*"))
        return shutil.disk_usage(self.home).free + there

    def change(self, fetched: Sequence[Fetched], gone: Sequence[str]) -> None:
        """Put what was fetched into its place, and remove what is ``gone``."""
        paths = [each.file.path for each in fetched]
        in_the_way = [path for path in gone if any(_exclude_each_other(path, other) for other in paths)]
        try:
            for path in in_the_way:
                self._remove(path)
            for each in fetched:
                self._place(each)
            # Last, so that whoever looks meanwhile never finds a model without any version.
            for path in gone:
                if path not in in_the_way:
                    self._remove(path)
        finally:
            self._state.save(self.home / "state.json")

    def remove_partial(self) -> None:
        """Downloads that nobody goes on with any more."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def _place(self, fetched: Fetched) -> None:
        path = self._top + fetched.file.path
        target = self._files / path
        before = self._state.files.get(path)
        self._state.tags_are_hashes &= fetched.tag_is_hash
        if before is not None and before.sha256 == fetched.sha256 and before.describes(target):
            fetched.partial.unlink()  # The same content under a new tag: nothing is to be loaded anew.
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched.partial.replace(target)
        status = target.lstat()
        self._state.files[path] = MirroredFile(fetched.file.tag, fetched.sha256, status.st_size, status.st_mtime_ns)

    def _remove(self, path: str) -> None:
        """A file that was fetched once, and the directories that are empty without it."""
        target = self._files / self._top / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
        self._state.files.pop(self._top + path, None)
        for directory in target.parents:
            if directory in (self.root, self._files):
                break
            with contextlib.suppress(OSError):
                directory.rmdir()


@contextlib.contextmanager
def _locked(path: Path, stopping: threading.Event) -> Iterator[None]:
    """While no other process holds the lock. Windows has none of this kind, and is left without."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stopping.wait(_LOOK_FOR_LOCK_S):
                    raise Stopped("the server is stopping") from None
        yield
    finally:
        os.close(opened)


def _exclude_each_other(one: str, other: str) -> bool:
    """Whether one of two paths is a directory above the other, so that they cannot both be files."""
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")
