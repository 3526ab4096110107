"""One compiled model on the disk: its files, their checksums, and whether it is still what was written.

To hash the files at each load would cost more than the cache saves. They are hashed again when anything that the
system tells of them is not as it was when they were hashed last, and once after every start of the machine: no write
through the file system leaves a file's change time alone.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ortolan.repository.private_files import FileRefused, sha256_of

MODEL = "model.onnx"
WEIGHTS = "weights.bin"
_MODEL_FILES = (MODEL, WEIGHTS)
_DESCRIPTION = "entry.json"
_STAMP = "stamp.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Nothing writes them again, and what is mapped must not be cut short by accident.
_READ_ONLY = 0o400


class Damaged(Exception):
    """The files are not what was written, or not of the model that is wanted."""


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """Where it is, and what had to be mended before ONNX Runtime took the original, one sentence each."""

    path: Path
    mendings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no compiled model for a key, and need be no further try."""

    reason: str


def write_model(folder: Path, key_text: str, mendings: tuple[str, ...]) -> None:
    """Describe the files of ``folder``, when they are complete and on the disk. Raises OSError."""
    for path in _present(folder):
        _settle(path)
    stamp = _stamp(folder)
    hashes = {path.name: _hash(path) for path in _present(folder)}
    _describe(folder, {"key": key_text, "files": hashes, "mendings": mendings})
    _replace(folder / _STAMP, json.dumps(stamp))


def write_refusal(folder: Path, key_text: str, reason: str) -> None:
    """Say that there is no compiled model, and remove what there is of it. Raises OSError."""
    for path in _present(folder):
        path.unlink()
    _describe(folder, {"key": key_text, "refused": reason})


def is_described(folder: Path) -> bool:
    return (folder / _DESCRIPTION).exists()


def read_entry(folder: Path, key_text: str) -> CompiledModel | Refusal:
    """What is in ``folder``. Raises Damaged when it is not what was written for ``key_text``."""
    try:
        body = _body(folder)
        if body["key"] != key_text:
            raise Damaged("it is of another model")
        if "refused" in body:
            return Refusal(str(body["refused"]))
        _check(folder, body["files"])
        return CompiledModel(folder / MODEL, tuple(map(str, body["mendings"])))
    except (OSError, FileRefused, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def size_bytes(folder: Path) -> int:
    """The bytes of all files in ``folder``; 0 when it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _present(folder: Path) -> list[Path]:
    return [folder / name for name in _MODEL_FILES if (folder / name).exists()]


def _settle(path: Path) -> None:
    """Have it on the disk before its checksum is: after a loss of power there may be zeros in its place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.chmod(_READ_ONLY)


def _describe(folder: Path, body: Mapping[str, object]) -> None:
    text = json.dumps(body)
    _replace(folder / _DESCRIPTION, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def _body(folder: Path) -> Any:
    digest, _, text = (folder / _DESCRIPTION).read_text().partition("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise Damaged("its description was changed")
    return json.loads(text)


def _check(folder: Path, hashes: Mapping[str, str]) -> None:
    if MODEL not in hashes or not set(hashes) <= set(_MODEL_FILES):
        raise Damaged("it lacks its model")
    stamp = _stamp(folder)
    if stamp["files"].keys() != hashes.keys():
        raise Damaged("a file is missing")
    if stamp["boot"] and _known_stamp(folder) == stamp:
        return
    for name, expected in hashes.items():
        if _hash(folder / name) != expected:
            raise Damaged(f"{name} was changed")
    # Where the directory cannot be written it is hashed again next time.
    with contextlib.suppress(OSError):
        _replace(folder / _STAMP, json.dumps(stamp))


def _stamp(folder: Path) -> dict[str, Any]:
    """What changes when a file does: none of these stays as it is when somebody writes."""
    stats = {path.name: path.lstat() for path in _present(folder)}
    files = {
        name: [stat.st_dev, stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        for name, stat in stats.items()
    }
    return {"boot": _boot(), "files": files}


def _known_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError, RecursionError):
        return None


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _hash(path: Path) -> str:
    """Raises OSError for a symbolic link, too."""
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb", buffering=0) as file:
        return sha256_of(file)


def _replace(path: Path, text: str) -> None:
    """Write the file at once or not at all."""
    new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
