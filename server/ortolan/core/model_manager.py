"""Which models there are, by the repository and by what clients ask for; finds a version by name.

Lives on the event loop; reading directories and loading models happen in threads. Loads and unloads of the same model
follow one another while those of others go on beside them.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ortolan.core.client_loads import ClientLoads, Turn
from ortolan.core.ensemble_loader import EnsembleLoader
from ortolan.core.ensembles import Ensembles
from ortolan.core.load_override import LoadOverride
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import IndexEntry, Model
from ortolan.core.model_settling import ModelSettling
from ortolan.core.repository_following import RepositoryFollowing
from ortolan.core.repository_view import RepositoryView
from ortolan.core.response_cache import ResponseCache
from ortolan.core.retirement import Retirement
from ortolan.core.served_version import ServedVersion
from ortolan.core.version_changes import VersionChanges
from ortolan.errors import InvalidArgument, NotFound, StartupError, Unavailable
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.watchdog import Watchdog
from ortolan.repository import directory
from ortolan.repository.directory import NAMESPACE_SEPARATOR, RepositoryListing
from ortolan.repository.file_contents import FileContents
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.sources.mirrors import Mirrors
from ortolan.repository.sources.problem import Problem

_UNFETCHED = "it could not be fetched from where its repository is; the server's log says why"


class ModelManager:
    """Keeps every model's versions as they are wanted."""

    def __init__(
        self,
        roots: Sequence[Path],
        options: LoadingOptions,
        limits: QueueLimits,
        load_threads: int = 4,
        model_name: str = "",
        config_name: str = "",
        override_directories: OverrideDirectories | None = None,
        namespacing: bool = False,
        contents: FileContents | None = None,
        quiet_s: float = 0.0,
        cache: ResponseCache | None = None,
        mirrors: Mirrors | None = None,
    ) -> None:
        """``contents`` tells files that changed from those that were only touched, at the price of reading them;
        ``quiet_s`` is how long a model's files must have stayed as they are before ``poll`` loads it. Without ``cache``
        no model keeps its answers. ``mirrors`` are those of the roots that hold what is elsewhere.
        """
        self._view = RepositoryView(lambda: directory.survey(roots, model_name, config_name, namespacing), namespacing)
        self.roots = tuple(roots)
        self._mirrors = mirrors
        self._fetch_threads = LoadThreads(load_threads)  # A store that does not answer holds up no load.
        self._load_threads = LoadThreads(load_threads)
        self._override_directories = override_directories or options.copies.directories
        self._models: dict[str, Model] = {}
        # Others look in between; what they see must not hide a change from the next poll.
        self._following = RepositoryFollowing(self._follow_up, quiet_s)
        self._retirement = Retirement()
        loader = EnsembleLoader(self._models, self._load_threads, cache)
        changes = VersionChanges(options, limits, self._load_threads, self._retirement, loader, cache)
        self._ensembles = Ensembles(self._models, loader, changes)
        self._settling = ModelSettling(
            self._models, self._view, self._ensembles, self._load_threads, self._override_directories, contents
        )
        self._watchdog = Watchdog(
            lambda: (each for version in (*self.serving(), *self._retirement) for each in version.schedulers)
        )
        self._client_loads = ClientLoads(load_threads)

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> ServedVersion:
        """The ready version ``version`` of model ``name``, or its newest one for "".

        Raises NotFound for names and versions that are not there, Unavailable for those that are not ready and
        InvalidArgument for a name that several repositories have, where namespaces part them.
        """
        model = self._models.get(name)
        if model is None or model.newest is None:
            model = self._models.get(self._view.full_name(name))
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return model.find(version)

    def serving(self) -> Iterator[ServedVersion]:
        """Every version that is ready, by name and number."""
        for name in sorted(self._models):
            yield from self._models[name].serving()

    def ready_numbers(self, name: str) -> list[int]:
        model = self._models.get(name)
        return [version.number for version in model.serving()] if model else []

    def is_missed(self, name: str) -> bool:
        """Whether nothing of the model is ready but should be: it loads, or failed to."""
        model = self._models.get(name)
        return model is not None and model.newest is None and model.is_amiss

    async def watch(self) -> None:
        """End runs that take too long, for ever."""
        await self._watchdog.watch()

    def hangs(self, version: ServedVersion) -> bool:
        """Whether the version cannot run any more, because a run of it would not end."""
        return any(map(self._watchdog.hangs, version.schedulers))

    def all_ready(self) -> bool:
        """Whether every version that should be ready is, and can run, and every repository has been there once."""
        if not self._view.is_whole or any(self.hangs(version) for version in self.serving()):
            return False
        return not any(model.is_amiss for model in self._models.values())

    def knows(self, name: str) -> bool:
        """Whether the model is in the repository, or is or was loaded."""
        return any(each in self._models or each in self._view.listing.models for each in self._view.meant(name))

    def names(self) -> list[str]:
        """Every model of the last walk, and those that were ever loaded."""
        return sorted({*self._view.listing.models, *self._models})

    def index(self) -> list[IndexEntry]:
        """Every model of the last walk and every version that was ever loaded, by name and number."""
        entries: list[IndexEntry] = []
        for name in self.names():
            model = self._models.get(name)
            entries += model.index() if model is not None else [IndexEntry(name)]
        return entries

    # -- changing ------------------------------------------------------------------------------------------------

    async def look(self) -> RepositoryListing:
        """Walk the repository anew, for a client. Raises Unavailable when none of its roots is there any more."""
        listing = await self._view.look_for_client()
        self._settling.forget_gone()
        return listing

    async def fetch(self, names: Collection[str] | None = None) -> tuple[Problem, ...]:
        """Bring the mirrors of what is elsewhere up to date, for all models or the named; what could not be had."""
        if self._mirrors is None or not self._mirrors.are_there:
            return ()
        own_names = None if names is None else {name.rpartition(NAMESPACE_SEPARATOR)[2] for name in names}
        return await self._fetch_threads.run(self._mirrors.refresh, own_names)

    def _note_unfetched(self, problems: Iterable[Problem]) -> None:
        """Of the models of which nothing serves: that they could not be fetched."""
        for problem in problems:
            model = self._models.setdefault(problem.model, Model(problem.model))
            if model.newest is None:
                model.problem = _UNFETCHED

    async def load_all(self, names: Iterable[str] | None = None, wait_for_roots: bool = False) -> None:
        """Load the models ``names``, or all there are; what fails says so in the index and in ``failures``.

        Raises StartupError when a root of the repository is not there, unless ``poll`` is to wait for it.
        """
        names = None if names is None else list(names)
        problems = await self.fetch(names)
        if whole := [problem.message for problem in problems if not problem.model]:
            raise StartupError("; ".join(whole))
        listing = await self._view.look_at_start(wait_for_roots)
        await self._load_threads.run(self._override_directories.remove_left_overs)
        chosen = list(listing.models) if names is None else list(names)
        self._following.start_from(listing)
        await asyncio.gather(*(self._settling.settle(name, listing.models.get(name)) for name in chosen))
        self._note_unfetched(problems)

    async def load(self, name: str, override: LoadOverride | None = None, forced: bool = False) -> None:
        """Load the model as it is on disk now, or with what a client sent in place of that.

        What is loaded already and did not change is left as it is, unless the load is ``forced``. Raises
        InvalidArgument with the reason when it fails; what served before goes on serving. Raises Unavailable when too
        many loads wait.
        """
        size_bytes = override.size_bytes if override else 0
        failures = await self._client_loads.run(size_bytes, partial(self._load, name, override, forced))
        if failures:
            raise InvalidArgument(f"load failed for model '{name}': {'; '.join(failures)};\n")

    async def _load(self, name: str, override: LoadOverride | None, forced: bool, turn: Turn) -> list[str]:
        """What failed of the load, for which it is now the model's turn to wait."""
        async with self._client_loads.order(name):
            name, entry = await self._looked_up(name, bool(override and override.files), turn)
            async with turn.begun():
                with self._settling.held(name) as model:
                    if forced:
                        await self._settling.forget_loaded(model)
                    if override is None:
                        await self._settling.settle(name, entry, forget_failures=True)
                    elif entry is not None and not override.files:
                        await self._settling.settle_overridden(model, entry, override.config)
                    else:
                        directory = await self._load_threads.run(self._override_directories.build, override.files)
                        text, override = override.config, None
                        turn.let_go()
                        await self._settling.settle_sent(model, directory, text)
                    return model.failures

    async def _looked_up(self, name: str, with_files: bool, turn: Turn) -> tuple[str, ModelEntry | None]:
        """The model's full name, and what the repository has of it now; nothing is fine for a load ``with_files``."""
        if self._mirrors is not None and self._mirrors.are_there:
            # It may take long, and whoever asks again finds what has arrived. A store that hangs takes no place.
            turn.keep()
        problems = await self.fetch((name,))
        listing = await self.look()
        name = self._view.full_name(name)
        entry = listing.models.get(name)
        repository, own_name = entry.repository if entry else None, name.rpartition(NAMESPACE_SEPARATOR)[2]
        if not with_files and any(each.concerns(own_name, repository) for each in problems):
            raise Unavailable(f"model '{name}': {_UNFETCHED}")
        if entry is None and not with_files:
            if listing.unreadable:
                raise self._view.unavailable()
            raise InvalidArgument(f"failed to load '{name}', failed to poll from model repository: no such model in it")
        return name, entry

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Take the model out of service; requests inside are still answered. Unknown names are fine.

        With ``dependents`` so are the models that were loaded only because this one, an ensemble, needs them.
        """
        await self._client_loads.run_beside(self._unload(name, dependents))

    async def _unload(self, name: str, dependents: bool) -> None:
        async with self._client_loads.order(name):
            full_name = self._view.full_name(name)
            unneeded = self._ensembles.unneeded(full_name) if dependents else ()
            for gone in (full_name, *unneeded):
                await self._settling.settle_gone(gone)

    async def poll(self) -> None:
        """Follow what changed on disk since the last poll, to the end."""
        await self.follow()
        await self._following.completed()

    async def follow(self) -> bool:
        """Begin to follow what changed on disk and rests; whether something does not rest yet, so look again soon."""
        listing = await self._view.look_again()
        self._settling.forget_gone()
        return self._following.follow(listing)

    async def _follow_up(self, name: str, entry: ModelEntry | None) -> None:
        if name in self._models and self._models[name].overridden:
            return
        if entry is None:
            await self._settling.settle_gone(name)
        else:
            await self._settling.settle(name, entry)

    def failures(self) -> dict[str, list[str]]:
        """Per model that is not as it should be: why."""
        return {name: model.failures for name, model in sorted(self._models.items()) if model.failures}

    def refuse_loads(self) -> None:
        """Refuse the loads of clients that wait, and those that come: the server is about to stop."""
        self._client_loads.close()

    async def stop(self) -> None:
        """Refuse new requests of every version, and return once all that were inside are answered.

        Loads are given up at once; a thread that is inside one goes on until the runtime lets go of it.
        """
        self._client_loads.give_up()
        if self._mirrors is not None:
            self._mirrors.stop()
        self._fetch_threads.stop()
        self._following.stop()
        self._load_threads.stop()
        self._override_directories.close()
        versions = list(self.serving())
        for version in versions:
            version.refuse_new()
        await asyncio.gather(*(version.drained() for version in versions), self._retirement.completed())
        await asyncio.gather(*(asyncio.to_thread(version.join, 5.0) for version in versions))
