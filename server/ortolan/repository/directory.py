"""Walk the model repository's roots into model and version entries.

A root is a repository as Triton has it, where each sub-directory is a model; or one model's own directory; or a bare
``.onnx`` file; or a directory with loose ``.onnx`` files, each of which is a model. Reads names, sizes and times, and
no file's content but that of configurations without a version, which may be ensembles.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ortolan.errors import StartupError
from ortolan.repository.file_facts import visible_entries
from ortolan.repository.file_names import stays_inside
from ortolan.repository.model_directory import (
    DEFAULT_MODEL_FILENAME,
    ModelEntry,
    VersionEntry,
    find_config,
    holds_model_file,
    is_version_name,
    model_file,
    read_loose_model,
    read_model_directory,
)

__all__ = ["ModelEntry", "RepositoryListing", "VersionEntry", "model_file", "survey", "walk"]

NAMESPACE_SEPARATOR = "::"
"""Between a repository's name and its model's, where both are needed: ``vision::digits``."""

_FILE_AND_DIRECTORY = "model appears twice in the repository: rename or remove one of the two"
# Made by ext4 at the top of every volume; never a model.
_NEVER_MODELS = frozenset({"lost+found"})


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """What one walk found, models in name order. ``warnings`` are for the operator and may name paths.

    ``unreadable`` says of each root that is not there, or no repository, what is wrong with it. ``ambiguous`` has the
    full names of the models that share a name, where namespaces part them. ``aliases`` are further names → the model's.
    """

    models: Mapping[str, ModelEntry]
    warnings: tuple[str, ...] = ()
    unreadable: Mapping[Path, str] = field(default_factory=dict)
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def walk(
    roots: Sequence[Path], model_name: str = "", config_name: str = "", namespacing: bool = False
) -> RepositoryListing:
    """Everything that the roots hold now: as ``survey``, but StartupError when one of them cannot be read."""
    listing = survey(roots, model_name, config_name, namespacing)
    for reason in listing.unreadable.values():
        raise StartupError(reason)
    return listing


def survey(
    roots: Sequence[Path], model_name: str = "", config_name: str = "", namespacing: bool = False
) -> RepositoryListing:
    """Everything that the roots hold now, and which of them are not there or can be no model repository.

    ``model_name`` names the model of a root that is one model, and is a further name of the only model of a repository,
    as platforms expect that ask for a model by the name of its deployment. ``config_name`` prefers
    ``configs/<config_name>.pbtxt`` to ``config.pbtxt``. With ``namespacing`` models that share a name are told apart by
    their repositories' names.

    Raises StartupError for a ``config_name`` that leads elsewhere.
    """
    if config_name and (not stays_inside(config_name) or "/" in config_name):
        raise StartupError(f"the model configuration's name '{config_name}' must be a plain file name without .pbtxt")
    found: list[ModelEntry] = []
    warnings: list[str] = []
    unreadable: dict[Path, str] = {}
    seen: set[Path] = set()
    # Absolute, but with their symbolic links: the targets may be swapped between two walks.
    for root in dict.fromkeys(Path(os.path.abspath(path)) for path in roots):
        try:
            resolved = _resolved(root)
            if resolved in seen:
                continue
            seen.add(resolved)
            entries, notes = read_root(root, model_name, config_name)
        except StartupError as error:
            unreadable[root] = str(error)
            continue
        found += entries
        warnings += notes
    warnings += [f"model '{entry.name}': {reason}, ignored" for entry in found for reason in entry.ignored]
    models, ambiguous = _parted(found) if namespacing else (_by_name(found), {})
    aliases = _aliases(model_name, models)
    if model_name and not aliases and model_name not in models:
        warnings.append(f"the name '{model_name}' is not used: it is for one model, and here are {len(models)}")
    return RepositoryListing(models, tuple(warnings), unreadable, ambiguous, aliases)


def _aliases(model_name: str, models: Mapping[str, ModelEntry]) -> Mapping[str, str]:
    only = next(iter(models)) if len(models) == 1 else ""
    return {model_name: only} if model_name and only and only != model_name else {}


def _resolved(root: Path) -> Path:
    try:
        return root.resolve()
    # Python before 3.13 raises RuntimeError for a loop of symbolic links.
    except (OSError, RuntimeError) as error:
        raise StartupError(f"the model repository '{root}' cannot be read: {_reason(error)}") from error


def _reason(error: OSError | RuntimeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "its symbolic links lead in a circle"


def read_root(root: Path, model_name: str = "", config_name: str = "") -> tuple[list[ModelEntry], list[str]]:
    """The models of one root, and what the operator is to be told of it. Raises StartupError where it is none."""
    try:
        if not root.exists():
            raise StartupError(f"the model repository '{root}' does not exist: create it, or name another")
        if root.is_file() and root.suffix == ".onnx":
            return [read_loose_model(root, model_name or root.stem, root)], []
        if not root.is_dir():
            raise StartupError(f"the model repository '{root}' is neither a directory nor an .onnx file")
        return _read_root_directory(root, model_name, config_name)
    except OSError as error:
        raise StartupError(f"the model repository '{root}' cannot be read: {_reason(error)}") from error


def _read_root_directory(root: Path, model_name: str, config_name: str) -> tuple[list[ModelEntry], list[str]]:
    if _is_one_model(root, config_name):
        return [_read_one_model(root, model_name or _own_name(root), config_name)], []
    entries, warnings = _read_repository(root, config_name)
    if not entries:
        warnings.append(f"the model repository '{root}' is empty: nothing is served until a model is put into it")
    return entries, warnings


def _is_one_model(root: Path, config_name: str) -> bool:
    """Whether ``root`` is itself a model: it looks like one, and nothing in it does but its versions."""
    directories = [path for path in visible_entries(root) if path.is_dir() and path.suffix != ".onnx"]
    if find_config(root, config_name) is not None and any(is_version_name(path.name) for path in directories):
        return True
    if any(_has_config_or_versions(path, config_name) for path in directories):
        return False
    loose = [path.name for path in visible_entries(root) if path.suffix == ".onnx"]
    return _has_config_or_versions(root, config_name) or loose == [DEFAULT_MODEL_FILENAME]


def _own_name(root: Path) -> str:
    """What a directory that is one model is called; ``digits.onnx`` may be a directory as well."""
    return (root.stem if root.suffix == ".onnx" else root.name) or "model"


def _has_config_or_versions(directory: Path, config_name: str) -> bool:
    try:
        if find_config(directory, config_name) is not None:
            return True
        return any(
            is_version_name(path.name) and path.is_dir() and holds_model_file(path)
            for path in visible_entries(directory)
        )
    except OSError:
        return False  # Whoever reads it as a model reports that.


def _read_one_model(root: Path, name: str, config_name: str) -> ModelEntry:
    if _has_config_or_versions(root, config_name):
        return read_model_directory(root, name, root, config_name)
    # Only model.onnx marks the directory as a model's: whatever else is there is none of our business.
    return read_loose_model(root / DEFAULT_MODEL_FILENAME, name, root)


def _read_repository(root: Path, config_name: str) -> tuple[list[ModelEntry], list[str]]:
    entries: list[ModelEntry] = []
    warnings: list[str] = []
    for path in sorted(visible_entries(root), key=lambda entry: entry.name):
        if path.name in _NEVER_MODELS:
            continue
        if not _is_utf8(path.name):
            warnings.append(f"{path.name!a} in '{root}' is ignored: its name is not UTF-8")
        elif path.suffix == ".onnx" and path.stem:
            entries.append(read_loose_model(path, path.stem, root))
        elif path.is_dir() and _may_be_model(path):
            entries.append(read_model_directory(path, path.name, root, config_name))
        elif path.is_dir():
            warnings.append(f"'{path.name}' in '{root}' is ignored: there is no model in it")
    return entries, warnings


def _may_be_model(directory: Path) -> bool:
    """Whether anything in a repository's sub-directory says that a model is meant: if so, what is wrong is reported."""
    try:
        entries = list(visible_entries(directory))
        names = {path.name for path in entries}
        if "config.pbtxt" in names or "configs" in names or any(name.isdigit() for name in names):
            return True
        if any(path.suffix == ".onnx" for path in entries):
            return True
        return any(holds_model_file(path) for path in entries if path.is_dir())
    except OSError:
        return True


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_name(found: Sequence[ModelEntry]) -> Mapping[str, ModelEntry]:
    """The models by name; those that share one are a single one with a problem."""
    sharing: dict[str, list[ModelEntry]] = {}
    for entry in sorted(found, key=lambda entry: entry.name):
        sharing.setdefault(entry.name, []).append(entry)
    models = {name: first if not others else _shared(first, others) for name, (first, *others) in sharing.items()}
    return MappingProxyType(models)


def _shared(first: ModelEntry, others: Sequence[ModelEntry]) -> ModelEntry:
    repositories = dict.fromkeys(entry.repository for entry in (first, *others))
    if len(repositories) == 1:
        return replace(first, problem=_FILE_AND_DIRECTORY)
    names = [repository.name for repository in repositories]
    advice = "remove it from all but one"
    if len(set(names)) == len(names):
        full_names = " and ".join(f"{name}{NAMESPACE_SEPARATOR}{first.name}" for name in names)
        advice += f", or serve {full_names} with --model-namespacing"
    told = " and ".join(f"'{name}'" for name in names)
    return replace(first, problem=f"model appears in two or more repositories, {told}: {advice}")


def _parted(found: Sequence[ModelEntry]) -> tuple[Mapping[str, ModelEntry], dict[str, tuple[str, ...]]]:
    """The models by name, where those that share one have their repository's before it; and the full names of these."""
    by_name: dict[str, list[ModelEntry]] = {}
    for entry in found:
        by_name.setdefault(entry.name, []).append(entry)
    parted: list[ModelEntry] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    for name, entries in by_name.items():
        repositories = {entry.repository for entry in entries}
        if len(repositories) == len({repository.name for repository in repositories}) > 1:
            entries = [_with_namespace(entry) for entry in entries]
            ambiguous[name] = tuple(sorted({entry.name for entry in entries}))
        parted += entries
    return _by_name(parted), ambiguous


def _with_namespace(entry: ModelEntry) -> ModelEntry:
    name = f"{entry.repository.name}{NAMESPACE_SEPARATOR}{entry.name}"
    versions = tuple(replace(version, model_name=name) for version in entry.versions)
    return replace(entry, name=name, own_name=entry.name, versions=versions)
