"""Models that have a directory each and a name that whoever placed them there chose, as multi-model platforms do.

What the directory holds is one model in any of the forms that a repository's root may have, or an ensemble with its
models. Those stay among themselves: two such directories may each have a model ``digits`` for their ensembles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ortolan.errors import InvalidArgument, StartupError
from ortolan.repository.config_syntax import message_from_text
from ortolan.repository.directory import NAMESPACE_SEPARATOR, RepositoryListing, read_root
from ortolan.repository.ensemble_sign import is_of_ensemble
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.private_files import FileRefused, read_small

_LARGEST_CONFIG_BYTES = 4 << 20


def with_placed(listing: RepositoryListing, places: Mapping[str, Path]) -> RepositoryListing:
    """``listing`` and the models in ``places``, by the names that they were given there."""
    if not places:
        return listing
    placed = {entry.name: entry for name, place in sorted(places.items()) for entry in placed_entries(name, place)}
    return replace(listing, models={**listing.models, **placed})


def placed_entries(name: str, place: Path) -> list[ModelEntry]:
    """The model ``name`` that is in ``place``, and those that it needs, as ``NAME::THEIRS``; nothing is raised.

    What is wrong with the directory is the model's ``problem``, which carries no path.
    """
    try:
        found, _ = read_root(place, name)
    except StartupError:
        return [ModelEntry(name, place, place, problem="its directory is not there, or cannot be read")]
    try:
        chief = _chief(found)
    except InvalidArgument as error:
        return [ModelEntry(name, place, place, problem=error.message)]
    others = [_named(f"{name}{NAMESPACE_SEPARATOR}{entry.name}", entry, name) for entry in found if entry is not chief]
    return [_named(name, chief, name), *others]


def _chief(found: Sequence[ModelEntry]) -> ModelEntry:
    """The model for whose sake all are there. Raises InvalidArgument where that cannot be told."""
    if not found:
        raise InvalidArgument("there is no model in its directory: expected an .onnx file, or a model repository")
    if len(found) == 1:
        return found[0]
    ensembles = [entry for entry in found if entry.config_path is not None and is_of_ensemble(entry.config_path)]
    if len(ensembles) != 1:
        raise InvalidArgument(
            f"its directory has {len(found)} models, of which {len(ensembles)} are ensembles: expected one model, or "
            "one ensemble with the models that it needs"
        )
    return ensembles[0]


def _named(name: str, entry: ModelEntry, namespace: str) -> ModelEntry:
    versions = tuple(replace(version, model_name=name) for version in entry.versions)
    own_name = entry.name if entry.name != name else _declared_name(entry)
    return replace(entry, name=name, own_name=own_name, namespace=namespace, versions=versions)


def _declared_name(entry: ModelEntry) -> str:
    """What its configuration calls a model whose directory was given another name; "" where it says nothing."""
    if entry.config_path is None:
        return ""
    try:
        text = read_small(entry.config_path, _LARGEST_CONFIG_BYTES).decode()
        return str(message_from_text(text, entry.name).name)
    except (FileRefused, UnicodeDecodeError, InvalidArgument):
        return ""  # Its load will say what is wrong.
