"""Two walks over the model repository → which models appeared, changed and vanished. Pure."""

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
    """What happened to the repository between two walks."""
    old, new = before.models, after.models
    return Changes(
        appeared=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(name for name in new.keys() & old.keys() if not _same(old[name], new[name]))),
        vanished=tuple(sorted(old.keys() - new.keys())),
    )


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
