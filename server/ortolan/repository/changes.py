"""Looks at the model repository → which models appeared, changed and vanished, once they rest. Pure.

What is being copied changes from look to look, and a model that is half there must not be loaded; a directory that is
swapped for another is gone for an instant, and its model must not be unloaded for that. So a change counts once the
model has looked the same for a quiet time. It is the caller's clock that measures it: those of file servers differ.
"""

from dataclasses import dataclass

from ortolan.repository.directory import ModelEntry, RepositoryListing


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of models, each in name order; a model is in one of the three at most."""

    appeared: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.appeared or self.changed or self.vanished)


def compare(before: RepositoryListing, after: RepositoryListing) -> Changes:
    """What happened to the repository between two walks. Nothing is known of roots that cannot be read now."""
    old, new = before.models, after.models
    gone = (name for name in old.keys() - new.keys() if old[name].repository not in after.unreadable)
    return Changes(
        appeared=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(name for name in new.keys() & old.keys() if not _same(old[name], new[name]))),
        vanished=tuple(sorted(gone)),
    )


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A model as it was last seen, None for one that is gone, and since when it has looked like that."""

    entry: ModelEntry | None
    since_s: float


class RepositoryFollower:
    """Remembers what was followed up already, and which changes do not rest yet."""

    def __init__(self, quiet_s: float = 0.0) -> None:
        """``quiet_s`` is how long a change must have rested before it is told; 0 to tell it at once."""
        self._quiet_s = quiet_s
        self._followed: dict[str, ModelEntry] = {}
        self._restless: dict[str, _Sighting] = {}

    def start_from(self, listing: RepositoryListing) -> None:
        """Take ``listing`` for followed up."""
        self._followed = dict(listing.models)
        self._restless = {}

    def doubt(self, name: str) -> None:
        """Tell the model again when it rests, even if it then looks as it does now."""
        if name in self._followed:
            self._followed[name] = ModelEntry(name, self._followed[name].directory, self._followed[name].repository)

    @property
    def waits(self) -> bool:
        """Whether the last look showed a change that did not rest yet."""
        return bool(self._restless)

    def follow(self, listing: RepositoryListing, now_s: float) -> Changes:
        """The changes that have rested by now, each told once; ``now_s`` is of any clock that never goes back."""
        found = compare(RepositoryListing(self._followed), listing)
        names = (*found.appeared, *found.changed, *found.vanished)
        self._restless = {name: self._sighting(name, listing.models.get(name), now_s) for name in names}
        rested = {name for name, seen in self._restless.items() if now_s - seen.since_s >= self._quiet_s}
        for name in rested:
            entry = self._restless.pop(name).entry
            if entry is None:
                del self._followed[name]
            else:
                self._followed[name] = entry
        return Changes(*(tuple(n for n in group if n in rested) for group in _groups(found)))

    def _sighting(self, name: str, entry: ModelEntry | None, now_s: float) -> _Sighting:
        before = self._restless.get(name)
        return before if before is not None and _alike(before.entry, entry) else _Sighting(entry, now_s)


def _groups(found: Changes) -> tuple[tuple[str, ...], ...]:
    return found.appeared, found.changed, found.vanished


def _alike(old: ModelEntry | None, new: ModelEntry | None) -> bool:
    return old is new if old is None or new is None else _same(old, new)


def _same(old: ModelEntry, new: ModelEntry) -> bool:
    # The versions are compared too: a new version directory without a file in it leaves the fingerprint as it was.
    return (
        old.fingerprint == new.fingerprint
        and _numbers(old) == _numbers(new)
        and old.repository == new.repository
        and old.config_path == new.config_path
        and old.problem == new.problem
    )


def _numbers(entry: ModelEntry) -> tuple[int, ...]:
    return tuple(version.number for version in entry.versions)
