"""A version's model as the server has it for itself: checked, hashed, and out of reach of who writes the repository.

ONNX Runtime maps external data into memory. Were that file the repository's, cutting it short would end the server with
SIGBUS, and overwriting it would change the weights of a model that serves.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ortolan.core.confidential_model import decrypted_model
from ortolan.errors import Incomplete
from ortolan.execution.model_facts import FactsReader, ModelFacts
from ortolan.repository.encrypted_model import ModelKeys, is_encrypted
from ortolan.repository.external_data import NotWalkable, external_locations, path_inside, shown
from ortolan.repository.file_checks import FileChecks
from ortolan.repository.foreign_files import beginning_of, kind_of
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.private_files import (
    FileRefused,
    Known,
    copy_privately,
    open_inside,
    open_regular,
    unknown,
)

# The runtime needs three times a model's size while it loads it from memory, and keeps one of them; a file it reads
# piece by piece. Up to here that is nothing, and no disk is needed.
LARGEST_IN_MEMORY_BYTES = 4 << 20
# That of a protobuf message.
_LARGEST_BYTES = (2 << 30) - 1
_NOWHERE = Path(os.devnull)
_ORT_FORMAT = b"ORTM"
_DAMAGED = "damaged, truncated or no ONNX model. Copy or export it again."


@dataclass(frozen=True, slots=True)
class PrivateModel:
    """What a session is made of. ``folder`` is where its external data lies."""

    source: Path | bytes
    folder: Path
    facts: ModelFacts
    """``sha256`` is that of the model's file; with external data that of all hashes, so that it stands for both."""
    maps_files: bool
    """Whether sessions go on using the files when they are made."""
    remove: Callable[[], None]
    """Removes the files. What a session has mapped stays in memory."""


@dataclass(frozen=True, slots=True)
class CopyRules:
    """Where copies go, and what may be copied."""

    directories: OverrideDirectories
    allow_hard_links: bool = True
    keys: ModelKeys = field(default_factory=ModelKeys)
    """Those of encrypted models."""
    known: Known = unknown
    """Hashes of files that have been read already; not asked where a hash is checked."""


def take_privately(entry: ModelEntry, model: Path, checks: FileChecks, rules: CopyRules) -> PrivateModel:
    """Copy the file ``model`` of ``entry`` and its external data, unless it is small and has none: then read it.

    One that is encrypted is decrypted in memory. Raises InvalidArgument when a file is not what manifests and
    signatures say, is missing, or is not the model's to load; and Internal when the copy cannot be written.
    """
    confidential = _confidential(entry, model, rules.keys)
    if confidential is not None:
        checks.check(model, confidential.facts.sha256)
        return confidential
    reader = FactsReader()
    content = _small(entry, model)
    if content is not None:
        reader.update(content)
        if not reader.names_files:
            sha256 = hashlib.sha256(content).hexdigest()
            checks.check(model, sha256)
            return PrivateModel(content, _NOWHERE, reader.facts(sha256), False, _nothing)
    with ExitStack() as undo:
        folder = rules.directories.new()
        undo.callback(rules.directories.remove, folder)
        source = folder / model.name
        known = unknown if checks.active else rules.known
        sha256 = _copy_model(entry, model, source, reader, known)
        checks.check(model, sha256)
        hashes = _copy_external_data(entry, model, source, checks, rules, known) if reader.names_files else {}
        undo.pop_all()
    facts = reader.facts(_hash_of_all(sha256, hashes))
    return PrivateModel(source, folder, facts, bool(hashes), partial(rules.directories.remove, folder))


def _nothing() -> None:
    """Removes the files of a model that has none."""


def _confidential(entry: ModelEntry, model: Path, keys: ModelKeys) -> PrivateModel | None:
    """The model whose file is encrypted; None for one that is not."""
    with _opened(entry, model) as file:
        if not is_encrypted(file):
            return None
        content, facts = decrypted_model(entry.name, file, keys)
    return PrivateModel(content, _NOWHERE, facts, False, _nothing)


def _small(entry: ModelEntry, model: Path) -> bytes | None:
    """The content of a file that is small enough to be loaded from memory."""
    with _opened(entry, model) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_IN_MEMORY_BYTES:
            return None
        try:
            content = file.read(LARGEST_IN_MEMORY_BYTES + 1)
        except OSError as error:
            raise FileRefused(f"cannot be read: {error.strerror}") from error
    return content if len(content) <= LARGEST_IN_MEMORY_BYTES else None


def _copy_model(entry: ModelEntry, model: Path, target: Path, reader: FactsReader, known: Known) -> str:
    with _opened(entry, model) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > _LARGEST_BYTES:
            raise FileRefused(
                f"has {size_bytes} bytes, and ONNX Runtime loads at most {_LARGEST_BYTES} from one file; export the "
                "model with its weights as external data"
            )
        return copy_privately(file, target, reader.update, known)


@contextmanager
def _opened(entry: ModelEntry, model: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(model) as file:
            yield file
    except FileRefused as reason:
        raise reason.kind(f"model '{entry.name}': its file '{model.name}' {reason}") from reason


def _copy_external_data(
    entry: ModelEntry, model: Path, source: Path, checks: FileChecks, rules: CopyRules, known: Known
) -> dict[str, str]:
    """Copy what the model at ``source``, a copy of ``model``, names; the hashes by path."""
    hashes: dict[str, str] = {}
    for path, location in _wanted(entry, source).items():
        if path == PurePosixPath(model.name):
            continue  # It has its data at the end of its own file, which is there already.
        try:
            with open_inside(model.parent / path, (model.parent, entry.directory), rules.allow_hard_links) as file:
                hashes[path.as_posix()] = copy_privately(file, source.parent / path, known=known)
        except FileRefused as reason:
            raise reason.kind(f"model '{entry.name}': its external data '{shown(location)}' {reason}") from reason
        checks.check(model.parent / path, hashes[path.as_posix()])
    return hashes


def _wanted(entry: ModelEntry, source: Path) -> Mapping[PurePosixPath, str]:
    """The files that the model names, with the location as it stands in the model."""
    try:
        return {path_inside(location): location for location in external_locations(source)}
    except NotWalkable as error:
        if _is_ort_format(source):
            return {}
        # The runtime might see more in it than we do.
        kind = kind_of(beginning_of(source)) or _DAMAGED
        raise Incomplete(f"model '{entry.name}' cannot be read: its file '{source.name}' is {kind}") from error


def _is_ort_format(source: Path) -> bool:
    """Whether the file is of ONNX Runtime's own format, which has its weights inside."""
    with source.open("rb") as file:
        return file.read(8)[4:] == _ORT_FORMAT


def _hash_of_all(model: str, others: Mapping[str, str]) -> str:
    if not others:
        return model
    lines = [f"{model}\n", *(f"{others[path]} {path}\n" for path in sorted(others))]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
