"""What to fetch and what to remove so that a mirror holds what its source has. Pure.

Files go in groups, each a model of the repository: a group changes as a whole, or, when one of its files cannot be had,
not at all. Files that belong to the repository's root are the group "".
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ortolan.inference.printable import printable
from ortolan.repository.file_names import directories_above, stays_inside
from ortolan.repository.model_directory import is_version_name
from ortolan.repository.sources.remote_file import Listing, RemoteFile

_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Group:
    """One model: the files to fetch, and the paths to remove once those are there."""

    name: str
    fetch: tuple[RemoteFile, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """``groups`` with something to do, by name; ``placeholders`` are version directories without a file of theirs."""

    groups: tuple[Group, ...] = ()
    placeholders: tuple[str, ...] = ()


def plan(
    files: Sequence[RemoteFile],
    present: Mapping[str, str],
    chosen: Collection[str] | None = None,
    empty_versions: Iterable[str] = (),
) -> Plan:
    """How to get from ``present``, the mirror's paths and tags, to ``files``, and the directories ``empty_versions``.

    Only the models ``chosen`` are fetched, or all for None; of the others it is told which versions there are. What
    belongs to the root is always fetched.
    """
    there = {file.path: file for file in files}
    group_of = _grouping(there)
    names = sorted({group_of(path) for path in (*there, *present)})
    known = {group_of(path) for path in there}
    groups: list[Group] = []
    placeholders = set(empty_versions)
    for name in names:
        if name and chosen is not None and name not in chosen and name in known:
            placeholders |= _versions(name, there) or _version_of_an_ensemble(name, there, placeholders)
            continue
        fetch = tuple(f for path, f in sorted(there.items()) if group_of(path) == name and _differs(f, present))
        remove = tuple(sorted(path for path in present.keys() - there.keys() if group_of(path) == name))
        if fetch or remove:
            groups.append(Group(name, fetch, remove))
    return Plan(tuple(_parted(groups)), tuple(sorted(placeholders)))


def _grouping(paths: Collection[str]) -> Callable[[str], str]:
    """Path → the model that it belongs to; "" for files of the root, and for all where the root itself is a model."""
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    if "config.pbtxt" in paths or "configs" in tops or any(map(is_version_name, tops)):
        return lambda _: ""
    return lambda path: path.partition("/")[0] if "/" in path else ""


def usable(files: Iterable[RemoteFile]) -> tuple[list[RemoteFile], list[str]]:
    """The files that can stand in a directory as they are named, and a sentence for each that cannot.

    Hidden files are left out silently, and so are empty files that have others below them.
    """
    kept: dict[str, RemoteFile] = {}
    warnings: list[str] = []
    for file in files:
        if not _can_be_file(file.path):
            warnings.append(f"{_shown(file.path)} is left out: it can be no file's name inside the repository")
        elif _is_hidden(file.path):
            continue
        elif file.path in kept:
            warnings.append(f"{_shown(file.path)} is there twice: the first one counts")
        else:
            kept[file.path] = file
    directories = {parent for path in kept for parent in directories_above(path)}
    both = [kept.pop(path) for path in sorted(directories & kept.keys())]
    warnings += [f"{_shown(file.path)} is left out: it is a directory as well" for file in both if file.size_bytes]
    return list(kept.values()), warnings


def empty_versions(listing: Listing, kept: Iterable[RemoteFile]) -> list[str]:
    """The version directories of ensembles, which are empty, out of what the source has in place of them.

    Stores and git keep no empty directories: a marker stands for one, or a hidden file in it, such as ``.gitkeep``.
    Where versions have files, or there is no configuration, a directory without any means nothing. ``kept`` are the
    files that are usable.
    """
    paths = [file.path for file in kept]
    models = {model for path in paths if (model := _configured_by(path)) is not None}
    models -= {
        _split(each)[0] for path in paths for each in directories_above(path) if is_version_name(_split(each)[1])
    }
    known = {*listing.directories, *(file.path for file in listing.files if _is_hidden(file.path))}
    found = {each for path in known for each in (*directories_above(path), path)}
    return sorted(each for each in found if _split(each)[0] in models and is_version_name(_split(each)[1]))


def _parted(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups; all as one where a file of the root takes the place of a model's directory, or the other way."""
    root_paths = {path for group in groups if not group.name for path in (*_fetched(group), *group.remove)}
    if all(group.name not in root_paths for group in groups):
        return groups
    fetch = tuple(file for group in groups for file in group.fetch)
    return [Group("", fetch, tuple(path for group in groups for path in group.remove))]


def _fetched(group: Group) -> Iterable[str]:
    return (file.path for file in group.fetch)


def _differs(file: RemoteFile, present: Mapping[str, str]) -> bool:
    return not file.tag or present.get(file.path) != file.tag


def _versions(name: str, paths: Iterable[str]) -> set[str]:
    split = (path.split("/") for path in paths if path.startswith(f"{name}/"))
    return {f"{name}/{parts[1]}" for parts in split if len(parts) > 2 and is_version_name(parts[1])}


def _version_of_an_ensemble(name: str, paths: Iterable[str], placeholders: Collection[str]) -> set[str]:
    """The version by which a model is listed that has a configuration and no version: it may be an ensemble."""
    is_known = any(_split(each)[0] == name for each in placeholders)
    return {f"{name}/1"} if not is_known and any(_configured_by(path) == name for path in paths) else set()


def _configured_by(path: str) -> str | None:
    """The model whose configuration ``path`` is, "" for the root; None where it is none."""
    directory, name = _split(path)
    above, last = _split(directory)
    model = directory if name == "config.pbtxt" else above if last == "configs" else None
    return None if model is None or "/" in model else model


def _split(path: str) -> tuple[str, str]:
    """The directory that something is in, "" for the root, and its name there."""
    directory, _, name = path.rpartition("/")
    return directory, name


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _can_be_file(path: str) -> bool:
    parts = path.split("/")
    if not stays_inside(path) or any(part in ("", ".", "..") or ":" in part for part in parts):
        return False
    try:
        return max(len(part.encode()) for part in parts) <= _LONGEST_NAME_BYTES and len(path.encode()) <= (
            _LONGEST_PATH_BYTES
        )
    except UnicodeEncodeError:
        return False


def _shown(path: str) -> str:
    return f"'{printable(path, 200)}'"
