"""Which models there are, by the repository and by what clients ask for; finds a version by name.

Lives on the event loop; reading directories and loading models happen in threads. Each model has one lock, so that
loads and unloads of the same model follow one another while those of others go on beside them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ortolan.core import model_loader
from ortolan.core.client_loads import ClientLoads, Turn
from ortolan.core.load_override import LoadOverride
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import Candidate, IndexEntry, Model
from ortolan.core.model_version import ModelVersion
from ortolan.core.retirement import Retirement
from ortolan.core.version_changes import VersionChanges
from ortolan.errors import InvalidArgument, NotFound, OrtolanError, StartupError, Unavailable
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.watchdog import Watchdog
from ortolan.repository import changes, directory
from ortolan.repository.directory import RepositoryListing
from ortolan.repository.model_directory import ModelEntry, read_model_directory
from ortolan.repository.override_directory import OverrideDirectories

_log = logging.getLogger(__name__)


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
    ) -> None:
        self._walk: Callable[[], RepositoryListing] = lambda: directory.walk(roots, model_name, config_name)
        self._load_threads = LoadThreads(load_threads)
        self._override_directories = override_directories or OverrideDirectories()
        self._models: dict[str, Model] = {}
        self._listing = RepositoryListing({}, ())
        # Others look in between; what they see must not hide a change from the next poll.
        self._followed = self._listing
        self._retirement = Retirement()
        self._changes = VersionChanges(options, limits, self._load_threads, self._retirement)
        self._watchdog = Watchdog(lambda: (version.scheduler for version in (*self.serving(), *self._retirement)))
        self._client_loads = ClientLoads(load_threads)

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> ModelVersion:
        """The ready version ``version`` of model ``name``, or its newest one for "".

        Raises NotFound for names and versions that are not there and Unavailable for those that are not ready.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return model.find(version)

    def serving(self) -> Iterator[ModelVersion]:
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

    def hangs(self, version: ModelVersion) -> bool:
        """Whether the version cannot run any more, because a run of it would not end."""
        return self._watchdog.hangs(version.scheduler)

    def all_ready(self) -> bool:
        """Whether every version that should be ready is, and can run."""
        if any(self.hangs(version) for version in self.serving()):
            return False
        return not any(model.is_amiss for model in self._models.values())

    def knows(self, name: str) -> bool:
        """Whether the model is in the repository, or is or was loaded."""
        return name in self._models or name in self._listing.models

    def index(self) -> list[IndexEntry]:
        """Every model of the last walk and every version that was ever loaded, by name and number."""
        entries: list[IndexEntry] = []
        for name in sorted({*self._listing.models, *self._models}):
            model = self._models.get(name)
            entries += model.index() if model is not None else [IndexEntry(name)]
        return entries

    # -- changing ------------------------------------------------------------------------------------------------

    async def look(self) -> RepositoryListing:
        """Walk the repository anew, for a client. Raises Unavailable when one of its roots is not there any more."""
        try:
            return await self._look()
        except StartupError as error:
            _log.error("cannot look at the model repository: %s", error)
            raise Unavailable("the model repository cannot be read now; the server's log says why") from error

    async def _look(self) -> RepositoryListing:
        """Walk the repository anew. Raises StartupError, which may name paths, when one of its roots is not there."""
        self._listing = await asyncio.to_thread(self._walk)
        self._forget_gone()
        return self._listing

    async def load_all(self, names: Iterable[str] | None = None) -> None:
        """Load the models ``names``, or all there are; what fails says so in the index and in ``failures``.

        Raises StartupError when a root of the repository is not there.
        """
        listing = self._followed = await self._look()
        for warning in listing.warnings:
            _log.warning("%s", warning)
        await self._load_threads.run(self._override_directories.remove_left_overs)
        chosen = list(listing.models) if names is None else list(names)
        await asyncio.gather(*(self._settle(name, listing.models.get(name)) for name in chosen))

    async def load(self, name: str, override: LoadOverride | None = None) -> None:
        """Load the model as it is on disk now, or with what a client sent in place of that.

        Raises InvalidArgument with the reason when it fails; what served before goes on serving. Raises Unavailable
        when too many loads wait.
        """
        size_bytes = override.size_bytes if override else 0
        failures = await self._client_loads.run(size_bytes, partial(self._load, name, override))
        if failures:
            raise InvalidArgument(f"load failed for model '{name}': {'; '.join(failures)};\n")

    async def _load(self, name: str, override: LoadOverride | None, turn: Turn) -> list[str]:
        """What failed of the load, for which it is now the model's turn to wait."""
        listing = await self.look()
        entry = listing.models.get(name)
        if entry is None and not (override and override.files):
            raise InvalidArgument(f"failed to load '{name}', failed to poll from model repository: no such model in it")
        async with self._held(name) as model, turn.begun():
            if override is None:
                model.forget_failures()
                await self._settle_held(model, entry)
            elif entry is not None and not override.files:
                await self._settle_overridden(model, entry, override.config)
            else:
                directory = await self._load_threads.run(self._override_directories.build, override.files)
                text, override = override.config, None
                turn.let_go()
                await self._settle_sent(model, directory, text)
            return model.failures

    async def unload(self, name: str) -> None:
        """Take the model out of service; requests inside are still answered. Unknown names are fine."""
        if name not in self._models:
            return
        async with self._held(name) as model:
            model.problem, model.overridden = "", False
            await self._changes.reconcile(model, {})

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[Model]:
        """The model, locked; a new one if there is none, which is forgotten again if nothing comes of it."""
        model = self._models.setdefault(name, Model(name))
        model.holders += 1
        try:
            async with model.lock:
                yield model
        finally:
            model.holders -= 1
            if model.is_gone and not model.versions:
                del self._models[name]

    def _forget_gone(self) -> None:
        """Forget the models that are unloaded and not in the repository: clients may make up any number of names."""
        gone = [name for name, model in self._models.items() if model.is_gone and name not in self._listing.models]
        for name in gone:
            del self._models[name]

    async def poll(self) -> None:
        """Follow what changed on disk since the last poll. Raises StartupError when a root is not there any more."""
        before = self._followed
        after = self._followed = await self._look()
        difference = changes.compare(before, after)
        await asyncio.gather(
            *(
                self._settle(name, after.models[name])
                for name in (*difference.appeared, *difference.changed)
                if not self._is_overridden(name)
            ),
            *(self.unload(name) for name in difference.vanished if not self._is_overridden(name)),
        )

    def _is_overridden(self, name: str) -> bool:
        return name in self._models and self._models[name].overridden

    def failures(self) -> dict[str, list[str]]:
        """Per model that is not as it should be: why."""
        return {name: model.failures for name, model in sorted(self._models.items()) if model.failures}

    async def _settle(self, name: str, entry: ModelEntry | None) -> None:
        """Bring the model to what its entry on disk asks for."""
        async with self._held(name) as model:
            await self._settle_held(model, entry)

    async def _settle_held(self, model: Model, entry: ModelEntry | None) -> None:
        try:
            if entry is None:
                raise NotFound("no such model in the repository")
            config = await self._load_threads.run(model_loader.read_config, entry)
            wanted = model_loader.wanted_versions(entry, config)
        except OrtolanError as error:
            model.problem = error.message
            effect = "cannot be served" if model.newest is None else "keeps what it serves, its new files do not load"
            _log.error("model '%s' %s: %s", model.name, effect, error.message)
            return
        model.problem, model.overridden = "", False
        candidates = {number: Candidate(entry, config, version) for number, version in wanted.items()}
        await self._changes.reconcile(model, candidates)

    async def _settle_sent(self, model: Model, directory: Path, config: str) -> None:
        """Bring the model to the files that a client sent, which are in ``directory`` until that is done."""
        try:
            sent = await self._load_threads.run(read_model_directory, directory, model.name, directory)
            await self._settle_overridden(model, sent, config, with_files=True)
        finally:
            # What was read from the files stays in memory: they need not outlast the load.
            await asyncio.to_thread(self._override_directories.remove, directory)

    async def _settle_overridden(self, model: Model, entry: ModelEntry, text: str, with_files: bool = False) -> None:
        """Bring the model to what a client sent. Raises InvalidArgument, changing nothing, if it makes no sense."""
        config = await self._load_threads.run(model_loader.read_override, entry, text, with_files)
        wanted = model_loader.wanted_versions(entry, config)
        model.forget_failures()
        model.problem = ""
        candidates = {number: Candidate(entry, config, each, text) for number, each in wanted.items()}
        await self._changes.reconcile(model, candidates)
        model.overridden = model.overridden or not model.failures
        if not model.failures:
            what = "files and a configuration" if with_files else "a configuration"
            _log.info("model '%s' serves %s that a client sent, until its next load or unload", model.name, what)

    def refuse_loads(self) -> None:
        """Refuse the loads of clients that wait, and those that come: the server is about to stop."""
        self._client_loads.close()

    async def stop(self) -> None:
        """Refuse new requests of every version, and return once all that were inside are answered.

        Loads are given up at once; a thread that is inside one goes on until the runtime lets go of it.
        """
        self._client_loads.give_up()
        self._load_threads.stop()
        self._override_directories.close()
        versions = list(self.serving())
        for version in versions:
            version.refuse_new()
        await asyncio.gather(*(version.drained() for version in versions), self._retirement.completed())
        await asyncio.gather(*(asyncio.to_thread(version.join, 5.0) for version in versions))
