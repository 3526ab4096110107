"""One model's directory: its configuration file, its versions and the fingerprint of its files."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ortolan.errors import InvalidArgument
from ortolan.repository.file_names import is_golden_directory, stays_inside


class FileFact(NamedTuple):
    """What the file system says of one file without its being read.

    A size and a modification time can be kept through a change, by a tool or within one tick of the clock; the time of
    the last change to the inode and the inode's number cannot both be. They change without the content, too: who must
    know whether that is another compares hashes (``file_contents``).
    """

    path: str
    """Relative to the model's directory, with slashes."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0


Fingerprint = tuple[FileFact, ...]
"""The facts of each file, sorted by path."""

DEFAULT_MODEL_FILENAME = "model.onnx"
_LARGEST_VERSION = 2**63 - 1
# What stands beside the versions in a model's directory, by Triton's layout.
_COMPANIONS = frozenset({"configs", "warmup", "initial_state"})


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version on disk. ``model_file`` is given where a bare file is the version, whatever its name."""

    model_name: str
    number: int
    directory: Path
    model_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model on disk, versions in ascending order.

    ``ignored`` says which entries look like versions and are none, and why; ``problem`` says why the model cannot be
    served, and is "" where nothing is wrong so far. Both are for clients, too: they carry no path.
    """

    name: str
    directory: Path
    repository: Path
    config_path: Path | None = None
    versions: tuple[VersionEntry, ...] = ()
    fingerprint: Fingerprint = ()
    ignored: tuple[str, ...] = ()
    problem: str = ""
    own_name: str = ""
    """The name that its configuration file knows it by, where that is not ``name``."""

    @property
    def files_root(self) -> Path:
        """What the paths in ``fingerprint`` are relative to."""
        bare = self.versions[0].model_file if self.versions else None
        return bare if bare is not None and bare.suffix == ".onnx" and bare.is_dir() else self.directory


def read_model_directory(directory: Path, name: str, repository: Path, config_name: str = "") -> ModelEntry:
    """The model in ``directory``; what is wrong with it is its ``problem``, nothing is raised."""
    try:
        return _read(directory, name, repository, config_name)
    except OSError as error:
        return ModelEntry(name, directory, repository, problem=f"its directory cannot be read: {error.strerror}")


def _read(directory: Path, name: str, repository: Path, config_name: str) -> ModelEntry:
    entries = sorted(visible_entries(directory), key=lambda path: path.name)
    versions, ignored = _versions(entries, name)
    bare = directory / DEFAULT_MODEL_FILENAME
    if bare.exists() and versions:
        ignored += (f"'{DEFAULT_MODEL_FILENAME}' beside version directories: move it into one of them",)
    elif bare.exists():
        versions = (VersionEntry(name, 1, directory, bare),)
    return ModelEntry(
        name=name,
        directory=directory,
        repository=repository,
        config_path=find_config(directory, config_name),
        versions=versions,
        fingerprint=fingerprint(directory),
        ignored=ignored,
        problem="" if versions else _no_version(ignored),
    )


def read_loose_model(file: Path, name: str, repository: Path) -> ModelEntry:
    """The model that is a bare ``.onnx`` file, or a directory of that name; the file is its version 1."""
    return ModelEntry(
        name=name,
        directory=file.parent,
        repository=repository,
        versions=(VersionEntry(name, 1, file.parent, file),),
        fingerprint=loose_fingerprint(file),
    )


def visible_entries(directory: Path) -> Iterator[Path]:
    """What is in ``directory`` and not hidden, in no order."""
    return (path for path in directory.iterdir() if not path.name.startswith("."))


def find_config(directory: Path, config_name: str = "") -> Path | None:
    """``configs/<config_name>.pbtxt`` where it is asked for and there, else ``config.pbtxt``, else None."""
    candidates = [directory / "config.pbtxt"]
    if config_name:
        candidates.insert(0, directory / "configs" / f"{config_name}.pbtxt")
    return next((path for path in candidates if path.is_file()), None)


def is_version_name(name: str) -> bool:
    """Whether a directory of this name is a version: a positive integer without leading zeros, as Triton has it."""
    return (
        name.isascii()
        and name.isdigit()
        and len(name) <= len(str(_LARGEST_VERSION))
        and not name.startswith("0")
        and int(name) <= _LARGEST_VERSION
    )


def holds_model_file(directory: Path) -> bool:
    """Whether an ``.onnx`` file, or a directory of such a name, stands directly in ``directory``."""
    return any(path.suffix == ".onnx" for path in visible_entries(directory))


def model_file(version: VersionEntry, filename: str) -> Path:
    """The file to load for ``version``: ``filename`` in its directory, which may itself be a directory of that name.

    Raises InvalidArgument when it is not there, or when ``filename`` leads out of the model's directory.
    """
    if version.model_file is not None:
        return _inside_onnx_directory(version, version.model_file)
    if not stays_inside(filename):
        raise InvalidArgument(
            f"model '{version.model_name}': default_model_filename {filename!r} must be a relative name inside the "
            "version's directory"
        )
    return _inside_onnx_directory(version, version.directory / filename)


def fingerprint(directory: Path) -> Fingerprint:
    """Every file below ``directory`` that is not hidden; symbolic links are followed, once each."""
    return tuple(sorted(_facts_below(directory, directory, ())))


def loose_fingerprint(file: Path) -> Fingerprint:
    """A bare model file and what stands beside it under its name, such as ``digits.onnx_data``."""
    if file.is_dir():
        return fingerprint(file)
    siblings = (path for path in visible_entries(file.parent) if path.suffix != ".onnx" or path == file)
    related = (path for path in siblings if path.name.startswith(f"{file.stem}."))
    return tuple(sorted(fact for path in related if (fact := _fact(path, file.parent))))


def _versions(entries: list[Path], model_name: str) -> tuple[tuple[VersionEntry, ...], tuple[str, ...]]:
    directories = [path for path in entries if path.is_dir() and path.name != DEFAULT_MODEL_FILENAME]
    versions = [VersionEntry(model_name, int(path.name), path) for path in directories if is_version_name(path.name)]
    others = [path for path in directories if not is_version_name(path.name)]
    ignored = tuple(f"'{path.name}' {_why_ignored(path.name)}" for path in others if _looks_like_version(path))
    return tuple(sorted(versions, key=lambda version: version.number)), ignored


def _looks_like_version(directory: Path) -> bool:
    """Whether someone may have meant this directory as a version: a digit in its name, a model in it, or nothing."""
    if directory.name in _COMPANIONS or is_golden_directory(directory.name):
        return False
    if any(character.isdigit() for character in directory.name):
        return True
    return holds_model_file(directory) or not any(visible_entries(directory))


def _why_ignored(name: str) -> str:
    if not (name.isascii() and name.isdigit()):
        return "is not a number"
    if name.strip("0") == "":
        return "is not positive"
    return "has a leading zero" if name.startswith("0") else "is too large"


def _no_version(ignored: tuple[str, ...]) -> str:
    expected = (
        f"no version found: expected a directory with a positive number, such as 1/{DEFAULT_MODEL_FILENAME} (an "
        "ensemble's is empty)"
    )
    return f"{expected}; ignored are {', '.join(ignored)}" if ignored else expected


def _inside_onnx_directory(version: VersionEntry, path: Path) -> Path:
    """``path`` itself, or the model file in it where it is a directory with the weights beside the model."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise _missing(version, path.name, path.parent)
    named = path / DEFAULT_MODEL_FILENAME
    if named.is_file():
        return named
    candidates = [entry for entry in visible_entries(path) if entry.suffix == ".onnx" and entry.is_file()]
    if len(candidates) != 1:
        raise _missing(version, f"{path.name}/{DEFAULT_MODEL_FILENAME}", path)
    return candidates[0]


def _missing(version: VersionEntry, filename: str, directory: Path) -> InvalidArgument:
    try:
        there = sorted(path.name for path in visible_entries(directory))
    except OSError:
        there = []
    listed = ", ".join(f"'{name}'" for name in there[:8]) + (", …" if len(there) > 8 else "")
    return InvalidArgument(
        f"model '{version.model_name}' version {version.number} has no file '{filename}'; there is "
        f"{listed or 'nothing'} instead. Rename the file, or name it in config.pbtxt as default_model_filename."
    )


def _facts_below(root: Path, directory: Path, above: tuple[tuple[int, int], ...]) -> Iterator[FileFact]:
    try:
        status = directory.stat()
        entries = list(visible_entries(directory))
    except OSError:
        return  # It went away while we looked, or may not be read: what is in it is not part of the model now.
    identity = (status.st_dev, status.st_ino)
    if identity in above:  # A symbolic link to a directory that we are in.
        return
    for path in entries:
        fact = _fact(path, root)
        if fact is not None:
            yield fact
        else:
            yield from _facts_below(root, path, (*above, identity))


def _fact(path: Path, root: Path) -> FileFact | None:
    """The facts of a file; None for what is no regular file, or not there any more."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileFact(
        path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    )
