"""Which models there are, by the repository and by what clients ask for; finds a version by name.

Lives on the event loop; reading directories and loading models happen in threads. Loads and unloads of the same model
follow one another while those of others go on beside them.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from ortolan.core.client_loads import ClientLoads
from ortolan.core.ensemble_loader import EnsembleLoader
from ortolan.core.ensembles import Ensembles
from ortolan.core.fetching import Fetching
from ortolan.core.late_repository import await_repository
from ortolan.core.load_override import LoadOverride
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_control import ModelControl
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import IndexEntry, Model
from ortolan.core.model_settling import ModelSettling
from ortolan.core.placed_models import PlacedModels
from ortolan.core.repository_following import RepositoryFollowing
from ortolan.core.repository_view import RepositoryView
from ortolan.core.residency import NO_RULES, Residency, ResidencyRules
from ortolan.core.response_cache import ResponseCache
from ortolan.core.retirement import Retirement
from ortolan.core.served_version import ServedVersion
from ortolan.core.unserved_config import config_as_known
from ortolan.core.version_changes import VersionChanges
from ortolan.errors import NotFound, StartupError
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.watchdog import Watchdog
from ortolan.repository import directory
from ortolan.repository.file_contents import FileContents
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.placed_models import with_placed
from ortolan.repository.sources.mirrors import Mirrors


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
        rules: ResidencyRules = NO_RULES,
        patience_s: float = 0.0,
        placed_base: Path | None = None,
        roots_wait_s: float = 0.0,
    ) -> None:
        """``contents`` tells files that changed from those that were only touched, at the price of reading them;
        ``quiet_s`` is how long a model's files must have stayed as they are before ``poll`` loads it. Without ``cache``
        no model keeps its answers. ``mirrors`` are those of the roots that hold what is elsewhere. ``rules`` say which
        models are in memory. ``patience_s`` is for how long what ``poll`` cannot load may still be incomplete.
        ``placed_base`` has the directories that a platform may place models in; None where none does.
        ``roots_wait_s`` is how long roots may take to be there at start.
        """
        self.placed = PlacedModels(self, placed_base)
        self._view = RepositoryView(
            lambda: directory.survey(roots, model_name, config_name, namespacing),
            namespacing,
            lambda listing: with_placed(listing, self.placed.places),
        )
        self.roots = tuple(roots)
        self._patience_s, self._roots_wait_s = patience_s, roots_wait_s
        self._load_threads = LoadThreads(load_threads)
        self._options = options
        self.compiled = options.compiled
        self.inventory = options.inventory
        self._override_directories = override_directories or options.copies.directories
        self._models: dict[str, Model] = {}
        self._fetching = Fetching(mirrors, self._models, load_threads)
        # Others look in between; what they see must not hide a change from the next poll.
        self._following = RepositoryFollowing(self._follow_up, quiet_s)
        self._retirement = Retirement(lambda size_bytes: self.residency.gone(size_bytes))
        self.residency = Residency(
            self._models,
            self._view,
            self._load_threads,
            rules,
            lambda: self._retirement,
            lambda model, reason: changes.unload(model, reason),
            self.find,
            lambda name: self._control.load_for_request(name),
        )
        loader = EnsembleLoader(self._models, self._load_threads, cache, options.file_rules, options.detail)
        changes = VersionChanges(
            options, limits, self._load_threads, self._retirement, loader, self.residency.memory, cache
        )
        self._ensembles = Ensembles(self._models, loader, changes)
        self._settling = ModelSettling(
            self._models, self._view, self._ensembles, self._load_threads, self._override_directories, contents
        )
        self._watchdog = Watchdog(
            lambda: (each for version in (*self.serving(), *self._retirement) for each in version.schedulers)
        )
        self._control = ModelControl(
            ClientLoads(load_threads),
            self._view,
            self._fetching,
            self._settling,
            self._ensembles,
            self.residency,
            self._override_directories,
            self._load_threads,
        )

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> ServedVersion:
        """The ready version ``version`` of model ``name``, or its newest one for "".

        Raises NotFound for names and versions that are not there, Unavailable for those that are not ready and
        InvalidArgument for a name that several repositories have, where namespaces part them.
        """
        model = self._models.get(name)
        if model is None or model.newest is None:
            model = self._models.get(self._view.full_name(name))
            former = self._models.get(self._view.former_name(name))
            if former is not None and former.newest is not None and (model is None or model.newest is None):
                model = former  # It serves until it is loaded under its new name.
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found; the repository index lists the models")
        return model.find(version)

    def serving(self) -> Iterator[ServedVersion]:
        """Every version that is ready, by name and number."""
        for name in sorted(self._models):
            yield from self._models[name].serving()

    def ready_numbers(self, name: str) -> list[int]:
        model = self._models.get(self.own_name(name))
        return [version.number for version in model.serving()] if model else []

    def own_name(self, name: str) -> str:
        """The name of the model that has ``name`` as a further one; else ``name``."""
        return self._view.own_name(name)

    def is_missed(self, name: str) -> bool:
        """Whether nothing of the model is ready but should be: it loads, or failed to."""
        model = self._models.get(self.own_name(name))
        return model is not None and model.newest is None and model.is_amiss and not self.residency.excuses(model)

    async def watch(self) -> None:
        """End runs that take too long, for ever."""
        await self._watchdog.watch()

    def hangs(self, version: ServedVersion) -> bool:
        """Whether the version cannot run any more, because a run of it would not end."""
        return any(map(self._watchdog.hangs, version.schedulers))

    def all_ready(self) -> bool:
        """Whether every model that should be served is, and can run, and every repository has been there once."""
        if not self._view.is_whole or any(self.hangs(version) for version in self.serving()):
            return False
        return not any(model.is_amiss and not self.residency.excuses(model) for model in self._models.values())

    def knows(self, name: str) -> bool:
        """Whether the model is in the repository, or is or was loaded."""
        return any(each in self._models or each in self._view.listing.models for each in self._view.meant(name))

    def uses(self) -> Collection[str]:
        """The models that ensembles need."""
        return {each for model in self._models.values() for each in model.uses}

    def names(self) -> list[str]:
        """Every model of the last walk, those that were ever loaded, and those of repositories that are away."""
        return sorted({*self._view.listing.models, *self._view.away, *self._models})

    def index(self) -> list[IndexEntry]:
        """Every model of the last walk and every version that was ever loaded, by name and number."""
        entries: list[IndexEntry] = []
        for name in self.names():
            model = self._models.get(name)
            entries += model.index() if model is not None else [self.residency.absent_entry(name)]
        return entries

    # -- changing ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Walk the repository anew; what is not there now stays as it is known."""
        await self._view.look_again()
        self._settling.forget_gone()

    async def fetch(self) -> None:
        """Bring the mirrors of what is elsewhere up to date."""
        await self._fetching.fetch()

    async def load_all(self, names: Iterable[str] | None = None, wait_for_roots: bool = False) -> None:
        """Load the models ``names``, or all there are; what fails says so in the index and in ``failures``.

        Raises StartupError when a root of the repository is not there, unless ``poll`` is to wait for it.
        """
        names = None if names is None else list(names)
        problems = await self._fetching.fetch(None if self.residency.rules.on_demand else names)
        if whole := [problem.message for problem in problems if not problem.model]:
            raise StartupError("; ".join(whole))
        if self._roots_wait_s:
            await await_repository(self._view.look, self._roots_wait_s)
        listing = await self._view.look_at_start(wait_for_roots)
        await self._load_threads.run(self._override_directories.remove_left_overs)
        chosen = list(listing.models) if names is None else list(names)
        self._following.start_from(listing)
        await asyncio.gather(*(self._settling.settle(name, listing.models.get(name)) for name in chosen))
        self._fetching.note_unfetched(problems)

    async def load(self, name: str, override: LoadOverride | None = None, forced: bool = False) -> None:
        """As ``ModelControl.load``."""
        await self._control.load(name, override, forced)

    async def unload(self, name: str, dependents: bool = False) -> None:
        """As ``ModelControl.unload``."""
        await self._control.unload(name, dependents)

    def parts(self, name: str) -> Collection[str]:
        """The model, and those that are there only for its sake because a platform placed it with them."""
        inner = name + directory.NAMESPACE_SEPARATOR
        return (name, *(each for each in self._models if each.startswith(inner)))

    async def gone(self, names: Collection[str]) -> None:
        """Return once nothing of these unloaded models is in memory, and forget them: they are not to come back."""
        await self._retirement.gone(names)
        await self.look()
        self._settling.forget(names)
        for name in names:
            self.residency.allow(name)
        await asyncio.to_thread(self.residency.memory.meter.give_back)

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
        elif not self.residency.rests(name):
            await self._settling.settle(name, entry, patience_s=self._patience_s)

    def config_as_known(self, name: str) -> ModelConfig | None:
        """The configuration of a model that cannot be served, as far as its files say. Blocking."""
        entry = self._view.listing.models.get(name)
        return None if entry is None else config_as_known(entry, self._options)

    def failures(self) -> dict[str, list[str]]:
        """Per model that is not as it should be: why."""
        return {name: model.failures for name, model in sorted(self._models.items()) if model.failures}

    def refuse_loads(self) -> None:
        """Refuse the loads of clients that wait, and those that come: the server is about to stop."""
        self._control.close()

    async def stop(self) -> None:
        """Refuse new requests of every version, and return once all that were inside are answered.

        Loads are given up at once; a thread that is inside one goes on until the runtime lets go of it.
        """
        self._control.give_up()
        self._fetching.stop()
        self._following.stop()
        self._load_threads.stop()
        self._override_directories.close()
        versions = list(self.serving())
        for version in versions:
            version.refuse_new()
        await asyncio.gather(*(version.drained() for version in versions), self._retirement.completed())
        await asyncio.gather(*(asyncio.to_thread(version.join, 5.0) for version in versions))
