"""Brings each model to what is wanted of it: to its files, to what a client sent in their place, or to nothing.

Lives on the event loop. A model's lock is held while its versions change; the models that an ensemble needs are loaded
before its own lock is taken, and ensembles that need the model are looked at once it is let go.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ortolan.core import model_loader
from ortolan.core.ensembles import Ensembles, step_models
from ortolan.core.load_failure import LoadFailure, Origin, without_name
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_records import Candidate, Model
from ortolan.core.repository_view import RepositoryView
from ortolan.errors import NotFound, OrtolanError
from ortolan.repository.file_contents import Digests, FileContents
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry, read_model_directory
from ortolan.repository.override_directory import OverrideDirectories

_log = logging.getLogger(__name__)
_DEEPEST_NESTING = 32


class ModelSettling:
    """Changes the manager's models; makes new ones, and forgets those of which nothing is left."""

    def __init__(
        self,
        models: dict[str, Model],
        view: RepositoryView,
        ensembles: Ensembles,
        load_threads: LoadThreads,
        override_directories: OverrideDirectories,
        contents: FileContents | None,
    ) -> None:
        """``models`` are all there are, as they come and go; ``contents`` tells files that changed from those that were
        only touched.
        """
        self._models = models
        self._view = view
        self._ensembles = ensembles
        self._load_threads = load_threads
        self._override_directories = override_directories
        self._contents = contents

    @contextmanager
    def held(self, name: str) -> Iterator[Model]:
        """The model; a new one if there is none, which is forgotten again if nothing comes of it."""
        model = self._models.setdefault(name, Model(name))
        model.was_listed = model.was_listed or name in self._view.listing.models
        model.holders += 1
        try:
            yield model
        finally:
            model.holders -= 1
            model.forget_sent()
            if model.is_gone and not model.versions:
                del self._models[name]

    def forget_gone(self) -> None:
        """Forget the models that are unloaded and were only ever sent: clients may make up any number of names."""
        kept = self._view.listing.models
        for name, model in list(self._models.items()):
            model.forget_sent()
            if model.is_gone and not model.was_listed and name not in kept:
                del self._models[name]

    def forget(self, names: Collection[str]) -> None:
        """Forget those of which nothing is left, also where they were in the repository: they are not to come back."""
        for name in names:
            if (model := self._models.get(name)) is not None and model.is_gone:
                del self._models[name]

    async def settle(
        self,
        name: str,
        entry: ModelEntry | None,
        attempt: object = None,
        above: tuple[str, ...] = (),
        patience_s: float = 0.0,
    ) -> None:
        """Bring the model to what its entry on disk asks for; ``above`` are the ensembles that ask for it, if any.

        ``attempt`` is what somebody asked for, if anybody did: for each, what failed before is tried again, once.
        ``patience_s`` is for how long its files may still be on their way.
        """
        with self.held(name) as model:
            model.asked = model.asked or not above
            await self._settle_steps(model, entry, attempt, above)
            async with model.lock:
                model.forget_failures(attempt)
                try:
                    candidates = await self._candidates(model, entry, patience_s)
                except OrtolanError as error:
                    asked_again = attempt is not None and not above
                    self._note_problem(model, LoadFailure(error, patience_s=patience_s), asked_again)
                    return
                model.problem, model.incomplete, model.overridden, model.dismissed = "", False, False, False
                await self._ensembles.reconcile(model, candidates)
            await self._ensembles.follow(name)

    def _note_problem(self, model: Model, failure: LoadFailure, asked_again: bool) -> None:
        before, model.incomplete = model.problem, failure.is_passing
        model.problem = failure.passing_reason if failure.is_passing else failure.error.message
        if failure.is_passing:
            _log.warning("model '%s': %s", model.name, failure.logged_as_passing(model.name))
            loop = asyncio.get_running_loop()
            loop.call_later(failure.patience_s, self._end_patience, model, model.problem, failure)
        elif asked_again or model.problem != before:
            # Ensembles that need it have it tried again, which is no other event.
            _tell_problem(model, failure)

    def _end_patience(self, model: Model, told: str, failure: LoadFailure) -> None:
        """Its files have not changed for long: nobody is copying them."""
        if model.incomplete and model.problem == told:
            model.problem, model.incomplete = failure.error.message, False
            _tell_problem(model, failure)

    async def _candidates(self, model: Model, entry: ModelEntry | None, patience_s: float) -> dict[int, Candidate]:
        if entry is None:
            raise NotFound("no such model in the repository")
        config = await self._load_threads.run(model_loader.read_config, entry)
        wanted = model_loader.wanted_versions(entry, config)
        self._ensembles.check(model, config)
        digests = await self._digests(entry, wanted)
        model.uses = step_models(config, entry, self._view.listing)
        return {
            n: Candidate(entry, config, v, "", digests, model.uses, patience_s=patience_s) for n, v in wanted.items()
        }

    async def _settle_steps(
        self, model: Model, entry: ModelEntry | None, attempt: object, above: tuple[str, ...]
    ) -> None:
        """Of an ensemble: load those of its models that do not serve. What is wrong with it itself is told later."""
        if entry is None or entry.config_path is None:
            return
        with contextlib.suppress(OrtolanError):
            config = await self._load_threads.run(model_loader.read_config, entry)
            await self._settle_steps_of(config, model, entry, attempt, above)

    async def _settle_steps_of(
        self,
        config: ModelConfig,
        model: Model,
        entry: ModelEntry,
        attempt: object,
        above: tuple[str, ...] = (),
    ) -> None:
        model.uses = step_models(config, entry, self._view.listing)
        above = (*above, model.name)
        wanted = [
            (name, self._view.listing.models[name])
            for name in dict.fromkeys(model.uses)
            # Of those in a circle, or nested without end, it is said later that they are not there.
            if name in self._view.listing.models and name not in above and len(above) <= _DEEPEST_NESTING
        ]
        absent = [(name, each) for name, each in wanted if name not in self._models or not self._models[name].newest]
        await asyncio.gather(*(self.settle(name, each, attempt, above) for name, each in absent))

    async def _digests(self, entry: ModelEntry, versions: Collection[int]) -> Digests:
        if self._contents is None:
            return ()
        return await self._load_threads.run(self._contents.digests, entry, versions)

    async def forget_loaded(self, model: Model) -> None:
        """Have the next settling load what serves anew, whatever its files."""
        async with model.lock:
            model.forget_loaded()

    async def settle_gone(self, name: str, dismissed: bool = False) -> None:
        """Take the model out of service. Unknown names are fine. ``dismissed`` if that is because somebody says so."""
        if name not in self._models:
            return
        with self.held(name) as model:
            async with model.lock:
                model.problem, model.incomplete, model.overridden, model.asked, model.uses = "", False, False, False, ()
                model.dismissed = dismissed
                await self._ensembles.reconcile(model, {})
            await self._ensembles.follow(name)

    async def settle_sent(self, model: Model, directory: Path, config: str) -> None:
        """Bring the model to the files that a client sent, which are in ``directory`` until that is done."""
        try:
            sent = await self._load_threads.run(read_model_directory, directory, model.name, directory)
            await self.settle_overridden(model, sent, config, with_files=True)
        finally:
            # What was read from the files stays in memory: they need not outlast the load.
            await asyncio.to_thread(self._override_directories.remove, directory)

    async def settle_overridden(self, model: Model, entry: ModelEntry, text: str, with_files: bool = False) -> None:
        """Bring the model to what a client sent. Raises InvalidArgument, changing nothing, if it makes no sense."""
        config = await self._load_threads.run(model_loader.read_override, entry, text, with_files)
        wanted = model_loader.wanted_versions(entry, config)
        digests = await self._digests(entry, wanted)
        model.asked = True
        await self._settle_steps_of(config, model, entry, attempt := object())
        self._ensembles.check(model, config)
        async with model.lock:
            model.forget_failures(attempt)
            model.problem, model.incomplete, model.dismissed = "", False, False
            origin = Origin.SENT_FILES if with_files else Origin.SENT_CONFIG
            candidates = {
                n: Candidate(entry, config, each, text, digests, model.uses, origin=origin)
                for n, each in wanted.items()
            }
            await self._ensembles.reconcile(model, candidates)
            model.overridden = model.overridden or not model.failures
        await self._ensembles.follow(model.name)
        if not model.failures:
            what = "files and a configuration" if with_files else "a configuration"
            _log.info("model '%s' serves %s that a client sent, until its next load or unload", model.name, what)


def _tell_problem(model: Model, failure: LoadFailure) -> None:
    kept = "keeps what it serves, its new files do not load"
    effect = "cannot be served" if model.newest is None else kept
    _log.error("model '%s' %s: %s", model.name, effect, without_name(model.name, failure.error.message))
