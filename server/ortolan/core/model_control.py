"""What clients have done to models: loads and unloads, those of one model in the order in which they were asked for."""

from functools import partial

from ortolan.core.client_loads import ClientLoads, Turn
from ortolan.core.ensembles import Ensembles
from ortolan.core.fetching import UNFETCHED, Fetching
from ortolan.core.load_override import LoadOverride
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_settling import ModelSettling
from ortolan.core.repository_view import RepositoryView
from ortolan.core.residency import Residency
from ortolan.errors import InvalidArgument, OutOfMemory, Unavailable
from ortolan.repository.directory import NAMESPACE_SEPARATOR
from ortolan.repository.model_directory import ModelEntry
from ortolan.repository.override_directory import OverrideDirectories


class ModelControl:
    """Lives on the event loop."""

    def __init__(
        self,
        loads: ClientLoads,
        view: RepositoryView,
        fetching: Fetching,
        settling: ModelSettling,
        ensembles: Ensembles,
        residency: Residency,
        override_directories: OverrideDirectories,
        load_threads: LoadThreads,
    ) -> None:
        self._loads = loads
        self._view = view
        self._fetching = fetching
        self._settling = settling
        self._ensembles = ensembles
        self._residency = residency
        self._override_directories = override_directories
        self._load_threads = load_threads

    async def load(self, name: str, override: LoadOverride | None = None, forced: bool = False) -> None:
        """Load the model as it is on disk now, or with what a client sent in place of that.

        What is loaded already and did not change is left as it is, unless the load is ``forced``. Raises
        InvalidArgument with the reason when it fails; what served before goes on serving. Raises Unavailable when too
        many loads wait.
        """
        self._residency.allow(self._view.full_name(name))
        size_bytes = override.size_bytes if override else 0
        failures = await self._loads.run(size_bytes, partial(self._load, name, override, forced))
        if failures:
            raise InvalidArgument(f"load failed for model '{name}': {'; '.join(failures)};\n")

    async def load_for_request(self, name: str) -> None:
        """Load the model, whose name is full, because of a request for it. Raises as ``load`` does."""
        if failures := await self._loads.run(0, partial(self._load, name, None, False), for_request=True):
            raise Unavailable("; ".join(failures))

    async def _load(self, name: str, override: LoadOverride | None, forced: bool, turn: Turn) -> list[str]:
        """What failed of the load, for which it is now the model's turn to wait."""
        async with self._loads.order(name):
            name, entry = await self._looked_up(name, bool(override and override.files), turn)
            async with turn.begun():
                with self._settling.held(name) as model:
                    if forced:
                        await self._settling.forget_loaded(model)
                    if override is None:
                        await self._settling.settle(name, entry, attempt=object())
                    elif entry is not None and not override.files:
                        await self._settling.settle_overridden(model, entry, override.config)
                    else:
                        directory = await self._load_threads.run(self._override_directories.build, override.files)
                        text, override = override.config, None
                        turn.let_go()
                        await self._settling.settle_sent(model, directory, text)
                    if model.lacks_memory:
                        raise OutOfMemory("; ".join(model.failures))
                    return model.failures

    async def _looked_up(self, name: str, with_files: bool, turn: Turn) -> tuple[str, ModelEntry | None]:
        """The model's full name, and what the repository has of it now; nothing is fine for a load ``with_files``."""
        if self._fetching.is_needed:
            # It may take long, and whoever asks again finds what has arrived. A store that hangs takes no place.
            turn.keep()
        problems = await self._fetching.fetch((name,))
        listing = await self._view.look_for_client()
        self._settling.forget_gone()
        name = self._view.full_name(name)
        entry = listing.models.get(name)
        repository, own_name = entry.repository if entry else None, name.rpartition(NAMESPACE_SEPARATOR)[2]
        if not with_files and any(each.concerns(own_name, repository) for each in problems):
            raise Unavailable(f"model '{name}': {UNFETCHED}")
        if entry is None and not with_files:
            if listing.unreadable:
                raise self._view.unavailable()
            raise InvalidArgument(f"failed to load '{name}', failed to poll from model repository: no such model in it")
        return name, entry

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Take the model out of service; requests inside are still answered. Unknown names are fine.

        With ``dependents`` so are the models that were loaded only because this one, an ensemble, needs them.
        """
        await self._loads.run_beside(self._unload(name, dependents))

    async def _unload(self, name: str, dependents: bool) -> None:
        async with self._loads.order(name):
            full_name = self._view.full_name(name)
            unneeded = self._ensembles.unneeded(full_name) if dependents else ()
            for gone in (full_name, *unneeded):
                self._residency.withhold(gone)
                await self._settling.settle_gone(gone, dismissed=True)

    def close(self) -> None:
        """Refuse the loads that wait, and those that come; what has begun goes on."""
        self._loads.close()

    def give_up(self) -> None:
        """End those that go on as well; a thread that is inside one goes on until the runtime lets go of it."""
        self._loads.give_up()
