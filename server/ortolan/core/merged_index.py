"""The indexes of several processes as one. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ortolan.core.model_records import IndexEntry

# From what clients must know first to what is as they wish.
_STATES = ("UNAVAILABLE", "UNLOADING", "LOADING", "READY")


def merged_index(lists: Sequence[Sequence[IndexEntry]]) -> list[IndexEntry]:
    """One index out of those of all processes, by name and number: of a version the state that is worst."""
    found: dict[tuple[str, str], IndexEntry] = {}
    for entry in (entry for entries in lists for entry in entries):
        key = entry.name, entry.version
        found[key] = min(found.get(key, entry), entry, key=_rank)
    numbered = {name for name, version in found if version}
    # One process has seen no version of the model yet, another has.
    return [entry for (name, version), entry in sorted(found.items(), key=_order) if version or name not in numbered]


def _rank(entry: IndexEntry) -> int:
    return _STATES.index(entry.state) if entry.state in _STATES else len(_STATES)


def _order(item: tuple[tuple[str, str], IndexEntry]) -> tuple[str, int]:
    (name, version), _ = item
    return name, int(version or 0)


def states_of(told: Iterable[Sequence[Sequence[str]]]) -> Mapping[str, int]:
    """How many versions are in each state: ``told`` has the name, the number and the state of each, by process.

    A model that cannot be served, and of which no version is known, is one that is unavailable.
    """
    lists = [[IndexEntry(*fields) for fields in answer] for answer in told]
    return Counter(entry.state for entry in merged_index(lists) if entry.version or entry.state == "UNAVAILABLE")
