"""The repository as it was last seen: what it holds, which parts of it are not there, which names mean which model."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ortolan.errors import InvalidArgument, StartupError, Unavailable
from ortolan.repository.directory import NAMESPACE_SEPARATOR, RepositoryListing
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.mounts import Mounts

_log = logging.getLogger(__name__)


class RepositoryView:
    """Lives on the event loop; the walks are done in threads."""

    def __init__(
        self,
        survey: Callable[[], RepositoryListing],
        namespacing: bool,
        complete: Callable[[RepositoryListing], RepositoryListing] = lambda listing: listing,
    ) -> None:
        """``survey`` walks the repository; ``complete`` adds models that are nowhere in it."""
        self.listing = RepositoryListing({})
        """What the last walk found, whoever asked for it."""
        self.away: frozenset[str] = frozenset()
        """The models of repositories that the last walk did not find, as far as they are known."""
        self._survey = survey
        self._complete = complete
        self._namespacing = namespacing
        self._mounts = Mounts()
        self._former_names: dict[str, str] = {}
        self._away: Mapping[str, ModelEntry] = {}
        self._awaited: Mapping[Path, str] = {}
        self._complaints: Mapping[Path, str] = {}

    @property
    def is_whole(self) -> bool:
        """Whether every part of the repository has been there at least once."""
        return not self._awaited

    async def look(self) -> RepositoryListing:
        """Walk the repository anew."""
        listing = await asyncio.to_thread(self._survey_all)
        names = {**self._former_names, **_renamed(self.listing, listing)}
        self._former_names = {full: own for full, own in names.items() if full in listing.models}
        known = {**self._away, **self.listing.models}
        self._away = {name: entry for name, entry in known.items() if entry.repository in listing.unreadable}
        self.away = frozenset(self._away.keys() - listing.models.keys())
        self.listing = listing
        return listing

    def _survey_all(self) -> RepositoryListing:
        return self._complete(self._mounts.survey(self._survey))

    async def look_at_start(self, wait_for_roots: bool) -> RepositoryListing:
        """Walk the repository for the first time. Raises StartupError if a part is not there, unless it is awaited."""
        listing = await self.look()
        self._awaited = self._complaints = listing.unreadable
        for reason in listing.unreadable.values():
            if not wait_for_roots:
                raise StartupError(reason)
            _log.error("waiting for a part of the model repository: %s", reason)
        for warning in listing.warnings:
            _log.warning("%s", warning)
        return listing

    async def look_for_client(self) -> RepositoryListing:
        """Walk the repository anew. Raises Unavailable when nothing of it is there any more."""
        listing = await self.look()
        if listing.unreadable and not listing.models:
            raise self.unavailable()
        return listing

    async def look_again(self) -> RepositoryListing:
        """Walk the repository anew, and tell the operator what is not there any more, once each."""
        listing = await self.look()
        for root, reason in listing.unreadable.items():
            if self._complaints.get(root) != reason:
                # It may come back; until then what was loaded from it goes on.
                _log.error("cannot look at the model repository: %s", reason)
        self._complaints = listing.unreadable
        self._awaited = {root: reason for root, reason in self._awaited.items() if root in listing.unreadable}
        return listing

    def unavailable(self) -> Unavailable:
        """What a client is told that asks for what may be in a part that is not there."""
        _log.error("cannot look at the model repository: %s", "; ".join(self.listing.unreadable.values()))
        return Unavailable("the model repository cannot be read now; the server's log says why")

    def meant(self, name: str) -> tuple[str, ...]:
        """The names of all models that a client may mean with ``name``."""
        return self.listing.ambiguous.get(name, ()) or (self.full_name(name),)

    def own_name(self, name: str) -> str:
        """The name of the model that has ``name`` as a further one; else ``name``."""
        return self.listing.aliases.get(name, name)

    def former_name(self, name: str) -> str:
        """The name under which the model was known until another repository came to have one of that name, or ""."""
        return self._former_names.get(name, "")

    def full_name(self, name: str) -> str:
        """The name under which the model is known that a client calls ``name``. InvalidArgument if it is several's."""
        if full_names := self.listing.ambiguous.get(name):
            raise InvalidArgument(
                f"model '{name}' is in two or more repositories; say which one is meant: {', '.join(full_names)}"
            )
        repository, separator, own = name.partition(NAMESPACE_SEPARATOR)
        if not (self._namespacing and separator) or name in self.listing.models:
            return self.own_name(name)
        entry = self.listing.models.get(own)
        return own if entry is not None and entry.repository.name == repository else name


def _renamed(before: RepositoryListing, after: RepositoryListing) -> dict[str, str]:
    """Full names of models → the name that one of them had alone before, "" for the others."""
    return {
        full: own if before.models[own].repository == after.models[full].repository else ""
        for own, full_names in after.ambiguous.items()
        if own in before.models
        for full in full_names
    }
