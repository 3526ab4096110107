"""One model's directory: its configuration file, its versions and the fingerprint of its files."""

import os
from dataclasses import dataclass
from pathlib import Path

from ortolan.errors import Incomplete, InvalidArgument
from ortolan.repository.ensemble_sign import is_of_ensemble
from ortolan.repository.file_facts import Fingerprint, fingerprint, loose_fingerprint, visible_entries
from ortolan.repository.file_names import is_golden_directory, stays_inside
from ortolan.repository.foreign_files import framework_of

DEFAULT_MODEL_FILENAME = "model.onnx"
_LARGEST_VERSION = 2**63 - 1
_MOST_LISTED = 8
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
    namespace: str = ""
    """What stands before the names of models that only this one's ensembles mean; its repository's name if empty."""

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
    config_path = find_config(directory, config_name)
    if not versions and config_path is not None and is_of_ensemble(config_path):
        # Object stores and git keep no empty directories, so an ensemble can do without one.
        versions = (VersionEntry(name, 1, directory),)
    return ModelEntry(
        name=name,
        directory=directory,
        repository=repository,
        config_path=config_path,
        versions=versions,
        fingerprint=fingerprint(directory),
        ignored=ignored,
        problem="" if versions else _no_version(ignored, _loose_files(entries)),
    )


def read_loose_model(file: Path, name: str, repository: Path) -> ModelEntry:
    """The model that is a bare ``.onnx`` file, or a directory of that name; the file is its version 1."""
    versions = (VersionEntry(name, 1, file.parent, file),)
    try:
        facts = loose_fingerprint(file)
    except OSError as error:
        problem = f"its directory cannot be read: {error.strerror}"
        return ModelEntry(name, file.parent, repository, versions=versions, problem=problem)
    return ModelEntry(name, file.parent, repository, versions=versions, fingerprint=facts)


def find_config(directory: Path, config_name: str = "") -> Path | None:
    """``configs/<config_name>.pbtxt`` where it is asked for and there, else ``config.pbtxt``, else None."""
    candidates = [directory / "config.pbtxt"]
    if config_name:
        candidates.insert(0, directory / "configs" / f"{config_name}.pbtxt")
    # A link that leads nowhere is one as well: the load fails, rather than that it is as if nothing were configured.
    return next((path for path in candidates if os.path.lexists(path)), None)


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
        if filename not in (DEFAULT_MODEL_FILENAME, version.model_file.name):
            raise InvalidArgument(
                f"model '{version.model_name}': default_model_filename says '{filename}', but its only version is "
                f"'{version.model_file.name}', which is in no version directory: put the file into the directory "
                f"{version.number}, or leave default_model_filename out"
            )
        return _inside_onnx_directory(version, version.model_file)
    if not stays_inside(filename):
        raise InvalidArgument(
            f"model '{version.model_name}': default_model_filename {filename!r} must be a relative name inside the "
            "version's directory"
        )
    return _inside_onnx_directory(version, version.directory / filename)


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


def _loose_files(entries: list[Path]) -> list[str]:
    """The names of the ``.onnx`` files that stand where versions are expected."""
    return [path.name for path in entries if path.suffix == ".onnx"]


def _no_version(ignored: tuple[str, ...], loose: list[str]) -> str:
    sentences = [
        f"no version found: expected a directory with a positive number, such as 1/{DEFAULT_MODEL_FILENAME} (an "
        "ensemble needs none)"
    ]
    if loose:
        are, it = ("is", "it") if len(loose) == 1 else ("are", "one of them")
        sentences.append(
            f"{_listed(loose)} {are} in none: move {it} to 1/{DEFAULT_MODEL_FILENAME}, or to 1/{loose[0]} and write "
            f'default_model_filename: "{loose[0]}"'
        )
    if ignored:
        sentences.append(f"ignored are {', '.join(ignored)}")
    return "; ".join(sentences)


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_MOST_LISTED]) + (", …" if len(names) > _MOST_LISTED else "")


def _inside_onnx_directory(version: VersionEntry, path: Path) -> Path:
    """``path`` itself, or the model file in it where it is a directory with the weights beside the model."""
    if path.is_file():
        return path
    if not path.is_dir():
        if os.path.lexists(path):
            raise InvalidArgument(
                f"model '{version.model_name}' version {version.number}: '{path.name}' is no regular file, or a "
                "symbolic link that leads nowhere"
            )
        raise _missing(version, path.name, path.parent)
    named = path / DEFAULT_MODEL_FILENAME
    if named.is_file():
        return named
    candidates = [entry for entry in visible_entries(path) if entry.suffix == ".onnx" and entry.is_file()]
    if len(candidates) != 1:
        raise _missing(version, f"{path.name}/{DEFAULT_MODEL_FILENAME}", path)
    return candidates[0]


def _missing(version: VersionEntry, filename: str, directory: Path) -> Incomplete:
    try:
        there = sorted(path.name for path in visible_entries(directory))
    except OSError:
        there = []
    return Incomplete(
        f"model '{version.model_name}' version {version.number} has no file '{filename}'; there is "
        f"{_listed(there) or 'nothing'} instead. {_what_to_do(there)}"
    )


def _what_to_do(there: list[str]) -> str:
    """About a version's directory in which these names are, and not the model's."""
    if not there:
        return "Put the model there."
    foreign = "" if any(name.endswith(".onnx") for name in there) else framework_of(there)
    return f"{foreign}." if foreign else "Rename the file, or name it in config.pbtxt as default_model_filename."
