"""Fetch one file: go on where the last attempt ended, and take nothing that is not what the source says it has."""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ortolan.repository.sources.remote_file import (
    Corrupt,
    Digest,
    RemoteFile,
    Source,
    SourceChanged,
    SourceFailure,
    SourceUnreachable,
    Stopped,
)

_ATTEMPTS = 4
FIRST_DELAY_S = 0.5
# What arrives more slowly than this counts as nothing: else a source could keep a download going for ever.
_WINDOW_S = 60.0
_LEAST_BYTES_IN_WINDOW = 64 << 10
_PROGRESS_WORTH_A_NEW_START = 1 << 20
_HASHED_AT_ONCE = 1 << 20
_SHOWN_HASHES = {"sha256": "SHA-256", "md5": "MD5", "git": "git's SHA-1"}
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived and been checked, at ``partial``. ``tag_is_hash`` is False when its ETag was no MD5."""

    file: RemoteFile
    partial: Path
    sha256: str
    tag_is_hash: bool = True


class Downloads:
    """Fetches files into ``directory``, under names of its own; what is left there is gone on with."""

    def __init__(
        self,
        source: Source,
        directory: Path,
        stopping: threading.Event,
        first_delay_s: float = FIRST_DELAY_S,
        room: Callable[[], int] | None = None,
    ) -> None:
        """``first_delay_s`` is how long to wait before a second attempt; before later ones it is longer.

        ``room`` is how many bytes a file may have whose source does not say its size: half of what is free, if not
        given.
        """
        self._room = room or (lambda: shutil.disk_usage(directory).free // 2)
        self._source = source
        self._first_delay_s = first_delay_s
        self._directory = directory
        self._stopping = stopping

    def fetch(self, file: RemoteFile, arrived: Callable[[int], None], tags_are_hashes: bool = True) -> Fetched:
        """The file, complete and checked; ``arrived`` is called with numbers of bytes as they come.

        ``tags_are_hashes`` is False for a store whose ETags were found to be no hashes. Raises SourceFailure, Corrupt
        when twice something else arrived than there should be, and OSError when it cannot be written.
        """
        partial = self._partial(file)
        if not file.tag:
            partial.unlink(missing_ok=True)  # Nothing says that it is still the same file.
        if _is_known_to_be_whole(file, partial):
            arrived(_size(partial))
            return Fetched(file, partial, _hash(partial, "sha256"))
        seen: set[str] = set()
        wrong = ""
        for _ in range(2):
            self._receive(file, partial, arrived)
            hashed, verdict = _hash(partial, "sha256"), _verdict(file, partial)
            if verdict == "uncertain" and (hashed in seen or not tags_are_hashes):
                return Fetched(file, partial, hashed, tag_is_hash=False)
            if verdict == "right":
                return Fetched(file, partial, hashed)
            wrong = _difference(file, partial)
            seen.add(hashed)
            arrived(-partial.stat().st_size)
            partial.unlink()
        raise Corrupt(f"twice, what arrived was not what it has to be: {wrong}")

    def _partial(self, file: RemoteFile) -> Path:
        name = hashlib.sha256(f"{file.path}\0{file.tag}".encode()).hexdigest()[:40]
        return self._directory / name

    def _receive(self, file: RemoteFile, partial: Path, arrived: Callable[[int], None]) -> None:
        """Bring ``partial`` to the file's whole size, in as many attempts as get on."""
        failures, delay_s, before = 0, self._first_delay_s, _size(partial)
        left_behind = before > 0
        arrived(before)
        while True:
            try:
                self._attempt(file, partial, arrived)
                return
            except SourceChanged:
                if not left_behind:
                    raise
                # What an earlier process left may be too long, or longer than what is there now.
                arrived(-_size(partial))
                partial.unlink()
                before, left_behind = 0, False
                continue
            except SourceUnreachable:
                if _size(partial) - before >= _PROGRESS_WORTH_A_NEW_START:
                    failures, delay_s = 0, self._first_delay_s
                failures, before = failures + 1, _size(partial)
                if failures >= _ATTEMPTS:
                    raise
            if self._stopping.wait(delay_s):
                raise Stopped("the server is stopping")
            delay_s *= 2

    def _attempt(self, file: RemoteFile, partial: Path, arrived: Callable[[int], None]) -> None:
        there = _size(partial)
        if file.size_bytes is not None and there >= file.size_bytes and partial.exists():
            return
        body = self._source.read(file, there)
        with contextlib.closing(body.chunks), partial.open("r+b" if partial.exists() else "xb") as target:
            if body.start > there:
                raise SourceUnreachable("the source left out a part of the file")
            if body.start < there:
                arrived(body.start - there)
            target.truncate(body.start)
            target.seek(body.start)
            pace = _Pace()
            # A file without a size may be endless.
            room = file.size_bytes or self._room()
            for chunk in body.chunks:
                if file.size_bytes is None and target.tell() - body.start > room:
                    # What was kept of it to go on with would be in the way of all others.
                    target.truncate(0)
                    raise SourceFailure("it does not say how large it is, and takes too much of the room that is left")
                target.write(chunk)
                arrived(len(chunk))
                pace.add(len(chunk))
                if file.size_bytes is not None and target.tell() > file.size_bytes:
                    break  # More than there should be; it will be found corrupt.
            target.flush()
            os.fsync(target.fileno())
            if file.size_bytes is not None and target.tell() < file.size_bytes:
                raise SourceUnreachable("the file ended too early")


class _Pace:
    """Ends what is so slow that it would never end."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._bytes = 0

    def add(self, count: int) -> None:
        self._bytes += count
        now = time.monotonic()
        if now - self._since < _WINDOW_S:
            return
        if self._bytes < _LEAST_BYTES_IN_WINDOW:
            raise SourceUnreachable(f"only {self._bytes} bytes came in {now - self._since:.0f} s")
        self._since, self._bytes = now, 0


def _verdict(file: RemoteFile, path: Path) -> str:
    """Whether what has arrived is the file: ``right``, ``wrong``, or ``uncertain`` where its digest is that, too."""
    if file.size_bytes is not None and _size(path) != file.size_bytes:
        return "wrong"
    if file.digest is None or _hash_for(file.digest, path) == file.digest.hex.lower():
        return "right"
    return "wrong" if file.digest.is_certain else "uncertain"


def _difference(file: RemoteFile, path: Path) -> str:
    """In which way what has arrived is not the file; of hashes no more than tells them apart."""
    if file.size_bytes is not None and _size(path) != file.size_bytes:
        return f"expected {file.size_bytes} bytes, got more"
    if file.digest is None:
        return "it has no hash"
    name = _SHOWN_HASHES[file.digest.algorithm]
    expected, got = file.digest.hex.lower(), _hash_for(file.digest, path)
    return f"expected {name} {expected[:_SHOWN_DIGITS]}…, got {got[:_SHOWN_DIGITS]}…"


def _is_known_to_be_whole(file: RemoteFile, path: Path) -> bool:
    """Whether an earlier attempt left all of a file whose size the source does not say."""
    return file.size_bytes is None and _size(path) > 0 and file.digest is not None and _verdict(file, path) == "right"


def _hash_for(digest: Digest, path: Path) -> str:
    if digest.algorithm == "git":
        return _hash(path, "sha1", b"blob %d\0" % _size(path))
    return _hash(path, digest.algorithm)


def _hash(path: Path, algorithm: str, first: bytes = b"") -> str:
    # None of these guards against an attacker: SHA-256 apart, they are what the source happens to offer.
    hashed = hashlib.new(algorithm, first, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_HASHED_AT_ONCE):
            hashed.update(block)
    return hashed.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
