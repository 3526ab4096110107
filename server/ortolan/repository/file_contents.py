"""What is in a model's files, as hashes: whether a file that was touched, copied or swapped is another one.

A hash is computed once for each state of a file, so that looking again at what did not change reads nothing.
"""

import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from ortolan.repository.model_directory import FileFact, ModelEntry, is_version_name

Digests = tuple[tuple[str, str], ...]
"""(path relative to the model's directory, SHA-256 in hexadecimal) of each file, sorted by path."""

_CHUNK_BYTES = 1 << 20
# Two writes within one tick of a file system's clock leave the same times, so a hash that was made so soon after the
# last write may be that of the content before. 2 s is the coarsest tick there is, FAT's.
_TICK_NS = 2_000_000_000


class FileContents:
    """The hashes of the files of models. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, dict[Path, tuple[FileFact, str]]] = {}

    def digests(self, entry: ModelEntry, versions: Collection[int]) -> Digests:
        """The files of the given versions of a model, and those that all its versions share."""
        with self._lock:
            known = self._known.get(entry.name, {})
        root, facts = entry.files_root, _facts_of(entry, versions)
        found: dict[Path, tuple[FileFact, str]] = {}
        result: list[tuple[str, str]] = []
        for fact in facts:
            path = root / fact.path
            before = known.get(path)
            if before is not None and before[0] == fact:
                digest, lasting = before[1], True
            else:
                digest, lasting = _digest(path, fact)
            if lasting:
                found[path] = (fact, digest)
            result.append((fact.path, digest))
        with self._lock:
            self._known[entry.name] = found
        return tuple(result)

    def forget(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)


def version_of(path: str) -> str:
    """The version whose directory holds ``path``, which is relative to the model's; "" for what belongs to all."""
    first, _, rest = path.partition("/")
    return first if rest and is_version_name(first) else ""


def _facts_of(entry: ModelEntry, versions: Collection[int]) -> Iterable[FileFact]:
    wanted = {"", *map(str, versions)}
    return (fact for fact in entry.fingerprint if version_of(fact.path) in wanted)


def _digest(path: Path, fact: FileFact) -> tuple[str, bool]:
    """The hash of a file, and whether it stays that of ``fact``: it was not written meanwhile, nor just before.

    What cannot be read is told by the load, if the load needs it; here its facts stand for it.
    """
    sha256 = hashlib.sha256()
    try:
        # Read, not mapped: a mapped file that shrinks meanwhile kills the process.
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
            after = os.fstat(file.fileno())
    except OSError as error:
        return f"{error.strerror} {fact!r}", False
    same = (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino) == fact[1:]
    return sha256.hexdigest(), same and rests(fact)


def rests(fact: FileFact) -> bool:
    """Whether the file was last written so long ago that another write would show in its times."""
    age_ns = time.time_ns() - max(fact.mtime_ns, fact.ctime_ns)
    # A time that is far ahead comes from a tool or another machine's clock: no write of now would repeat it.
    return not -_TICK_NS <= age_ns <= _TICK_NS
