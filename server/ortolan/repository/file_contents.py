"""What is in a model's files, as hashes: whether a file that was touched, copied or swapped is another one.

A hash is computed once for each state of a file, so that looking again at what did not change reads nothing.
"""

import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

from ortolan.repository.file_facts import FileFact
from ortolan.repository.model_directory import ModelEntry, is_version_name
from ortolan.repository.private_files import FileRefused, open_regular

Digests = tuple[tuple[str, str], ...]
"""(path relative to the model's directory, SHA-256 in hexadecimal) of each file, sorted by path."""

_CHUNK_BYTES = 1 << 20
# To hash so much takes some seconds. What is larger, or is mostly holes, is taken for another when it is touched.
_MOST_BYTES = 8 << 30
_BLOCK = 512
_MOST_HOLES = 1 << 30
# Two writes within one tick of a file system's clock leave the same times, so a hash that was made so soon after the
# last write may be that of the content before. 2 s is the coarsest tick there is, FAT's.
_TICK_NS = 2_000_000_000

_State = tuple[int, int, int, int, int]


class FileContents:
    """The hashes of the files of models. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[_State, str] = {}
        """By the states of files, so that their names and places may change."""
        self._states: dict[str, set[_State]] = {}
        """Those of each model's files."""

    def digests(self, entry: ModelEntry, versions: Collection[int]) -> Digests:
        """The files of the given versions of a model, and those that all its versions share."""
        lasting: dict[_State, str] = {}
        result = tuple(
            (fact.path, self._digest(entry.files_root, fact, lasting)) for fact in _facts_of(entry, versions)
        )
        with self._lock:
            self._drop(entry.name)
            self._known |= lasting
            self._states[entry.name] = set(lasting)
        return result

    def known(self, state: os.stat_result) -> str | None:
        """The SHA-256 of a file that is in this state, where it has been computed and no write could have kept that."""
        with self._lock:
            return self._known.get(_state_of(state))

    def forget(self, name: str) -> None:
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        for state in self._states.pop(name, ()):
            self._known.pop(state, None)

    def _digest(self, root: Path, fact: FileFact, lasting: dict[_State, str]) -> str:
        """The hash of a file, which is put into ``lasting`` as well when it stays that of ``fact``.

        What cannot be read is told by the load, if the load needs it; here its facts stand for it.
        """
        try:
            with open_regular(root / fact.path) as file:
                before = os.fstat(file.fileno())
                if not _is_worth_hashing(before):
                    return f"not compared {fact!r}"
                digest = self.known(before)
                if digest is None:
                    digest = _sha256_of(file, before.st_size)
                    if _state_of(os.fstat(file.fileno())) != _state_of(before) or not rests(fact):
                        return digest
        except (OSError, FileRefused) as error:
            return f"{error} {fact!r}"
        if (before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino) == fact[1:]:
            lasting[_state_of(before)] = digest
        return digest


def version_of(path: str) -> str:
    """The version whose directory holds ``path``, which is relative to the model's; "" for what belongs to all."""
    first, _, rest = path.partition("/")
    return first if rest and is_version_name(first) else ""


def _facts_of(entry: ModelEntry, versions: Collection[int]) -> Iterable[FileFact]:
    wanted = {"", *map(str, versions)}
    return (fact for fact in entry.fingerprint if version_of(fact.path) in wanted)


def _state_of(status: os.stat_result) -> _State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_worth_hashing(status: os.stat_result) -> bool:
    """Whether the file can be read through in a while."""
    holes = status.st_size - getattr(status, "st_blocks", status.st_size) * _BLOCK
    return status.st_size <= _MOST_BYTES and holes <= _MOST_HOLES


def _sha256_of(file: BinaryIO, size_bytes: int) -> str:
    """The hash of the file, of which no more is read than it had at first: others may go on writing it."""
    sha256 = hashlib.sha256()
    # Read, not mapped: a mapped file that shrinks meanwhile kills the process.
    while size_bytes > 0 and (chunk := file.read(min(_CHUNK_BYTES, size_bytes))):
        sha256.update(chunk)
        size_bytes -= len(chunk)
    return sha256.hexdigest()


def rests(fact: FileFact) -> bool:
    """Whether the file was last written so long ago that another write would show in its times."""
    age_ns = time.time_ns() - max(fact.mtime_ns, fact.ctime_ns)
    # A time that is far ahead comes from a tool or another machine's clock: no write of now would repeat it.
    return not -_TICK_NS <= age_ns <= _TICK_NS
