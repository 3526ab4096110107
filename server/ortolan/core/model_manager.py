"""Which models and versions there are: performs the reconciler's actions and finds a version by name.

Lives on the event loop; reading directories and loading models happen in threads. Each model has one lock, so that
loads and unloads of the same model follow one another while those of others go on beside them.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from ortolan.core import model_loader
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_version import LoadedModel, ModelVersion
from ortolan.core.reconciler import Fingerprint, Load, PresentVersion, next_action
from ortolan.core.version_state import VersionState, advanced
from ortolan.errors import Internal, InvalidArgument, NotFound, OrtolanError, StartupError, Unavailable
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.watchdog import Watchdog
from ortolan.repository import changes, directory
from ortolan.repository.directory import RepositoryListing
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry, VersionEntry, is_version_name

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

UNLOADED = "unloaded"
LOAD_THREADS = "load"
"""How the names of the threads begin that load models."""
_LONGEST_VERSION = 20


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version of a model."""

    state: VersionState = VersionState.UNKNOWN
    reason: str = ""
    fingerprint: Fingerprint = None
    failed_fingerprint: Fingerprint = None
    serving: ModelVersion | None = None

    def advance(self, to: VersionState, reason: str = "") -> None:
        self.state = advanced(self.state, to)
        self.reason = reason


@dataclass(slots=True)
class Model:
    """One model that was loaded, or was to be."""

    name: str
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    problem: str = ""
    """Why nothing of it can be served: an unreadable configuration, no version."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: ModelVersion | None = None
    """The ready version with the highest number: the one that a request without a version gets."""

    def refresh_newest(self) -> None:
        ready = [record.serving for record in self.versions.values() if record.serving is not None]
        self.newest = max(ready, key=lambda version: version.number, default=None)

    @property
    def failures(self) -> list[str]:
        """The reason of each version that is not as it should be."""
        found = [self.problem] if self.problem else []
        for number, record in sorted(self.versions.items()):
            if record.state is VersionState.UNAVAILABLE and record.reason != UNLOADED:
                found.append(f"version {number} is at UNAVAILABLE state: {record.reason}")
            elif record.state is VersionState.READY and record.reason:
                found.append(f"version {number} serves what it served before: {record.reason}")
        return found

    def forgive(self, wanted: Mapping[int, Fingerprint]) -> None:
        """Let go of the complaints about versions that nobody wants, and about newer files that are gone again."""
        for number, record in self.versions.items():
            if record.state is VersionState.UNAVAILABLE and number not in wanted:
                record.reason, record.failed_fingerprint = UNLOADED, None
            elif record.state is VersionState.READY and wanted.get(number) == record.fingerprint:
                record.reason, record.failed_fingerprint = "", None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is to be loaded, as it is on disk."""

    entry: ModelEntry
    config: ModelConfig
    version: VersionEntry

    @property
    def fingerprint(self) -> Fingerprint:
        """The version's own files and those that all versions share; what other versions have does not count."""
        own = str(self.version.number)
        files = tuple(fact for fact in self.entry.fingerprint if _version_of(fact[0]) in ("", own))
        return (self.version, files)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


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
    ) -> None:
        self._walk: Callable[[], RepositoryListing] = lambda: directory.walk(roots, model_name, config_name)
        self._options = options
        self._limits = limits
        self._load_threads = ThreadPoolExecutor(load_threads, thread_name_prefix=LOAD_THREADS)
        self._models: dict[str, Model] = {}
        self._listing = RepositoryListing({}, ())
        # Others look in between; what they see must not hide a change from the next poll.
        self._followed = self._listing
        self._unloads: set[asyncio.Task[None]] = set()
        self._retiring: set[ModelVersion] = set()
        self._watchdog = Watchdog(lambda: (version.scheduler for version in (*self.serving(), *self._retiring)))
        self._loads: set[asyncio.Task[Model]] = set()

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> ModelVersion:
        """The ready version ``version`` of model ``name``, or its newest one for "".

        Raises NotFound for names and versions that are not there and Unavailable for those that are not ready.
        """
        model = self._models.get(name)
        if model is not None and not version and model.newest is not None:
            return model.newest
        return self._find_carefully(name, version)

    def _find_carefully(self, name: str, version: str) -> ModelVersion:
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if not version:
            raise NotFound(f"Request for unknown model: '{name}' has no available versions")
        record = model.versions.get(_version_number(version))
        if record is None:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        if record.serving is None:
            raise Unavailable(f"Request for unknown model: '{name}' version {version} is not at ready state")
        return record.serving

    def serving(self) -> Iterator[ModelVersion]:
        """Every version that is ready, by name and number."""
        for name in sorted(self._models):
            for _, record in sorted(self._models[name].versions.items()):
                if record.serving is not None:
                    yield record.serving

    def ready_numbers(self, name: str) -> list[int]:
        model = self._models.get(name)
        return sorted(n for n, record in model.versions.items() if record.serving is not None) if model else []

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
        return not any(
            # What cannot be read now does not take away what was read before.
            (model.problem and model.newest is None) or any(_is_amiss(record) for record in model.versions.values())
            for model in self._models.values()
        )

    def index(self) -> list[IndexEntry]:
        """Every model of the last walk and every version that was ever loaded, by name and number."""
        entries: list[IndexEntry] = []
        for name in sorted({*self._listing.models, *self._models}):
            model = self._models.get(name)
            if model is None or not (model.versions or model.problem):
                entries.append(IndexEntry(name))
            elif model.problem and not model.versions:
                entries.append(IndexEntry(name, "", VersionState.UNAVAILABLE.value, model.problem))
            else:
                entries += [
                    IndexEntry(name, str(number), record.state.value, _reason(record, model.problem))
                    for number, record in sorted(model.versions.items())
                ]
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
        return self._listing

    async def load_all(self, names: Iterable[str] | None = None) -> None:
        """Load the models ``names``, or all there are; what fails says so in the index and in ``failures``.

        Raises StartupError when a root of the repository is not there.
        """
        listing = self._followed = await self._look()
        for warning in listing.warnings:
            _log.warning("%s", warning)
        chosen = list(listing.models) if names is None else list(names)
        await asyncio.gather(*(self._settle(name, listing.models.get(name)) for name in chosen))

    async def load(self, name: str) -> None:
        """Load the model as it is on disk now. Raises InvalidArgument with the reason when it fails."""
        listing = await self.look()
        entry = listing.models.get(name)
        if entry is None:
            raise InvalidArgument(f"failed to load '{name}', failed to poll from model repository: no such model in it")
        # A client that gives up takes nothing back: who asks again finds the model loading, or loaded.
        model = await asyncio.shield(self._kept(self._settle(name, entry, forget_failures=True)))
        if model.failures:
            raise InvalidArgument(f"load failed for model '{name}': {'; '.join(model.failures)};\n")

    async def unload(self, name: str) -> None:
        """Take the model out of service; requests inside are still answered. Unknown names are fine."""
        model = self._models.get(name)
        if model is None:
            return
        async with model.lock:
            model.problem = ""
            await self._reconcile(model, {})

    async def poll(self) -> None:
        """Follow what changed on disk since the last poll. Raises StartupError when a root is not there any more."""
        before = self._followed
        after = self._followed = await self._look()
        difference = changes.compare(before, after)
        await asyncio.gather(
            *(self._settle(name, after.models[name]) for name in (*difference.appeared, *difference.changed)),
            *(self.unload(name) for name in difference.vanished),
        )

    def failures(self) -> dict[str, list[str]]:
        """Per model that is not as it should be: why."""
        return {name: model.failures for name, model in sorted(self._models.items()) if model.failures}

    def _kept(self, load: Coroutine[None, None, Model]) -> asyncio.Task[Model]:
        """A task for ``load`` that goes on when nobody waits for it any more."""
        task = asyncio.get_running_loop().create_task(load)
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        return task

    async def _settle(self, name: str, entry: ModelEntry | None, forget_failures: bool = False) -> Model:
        """Bring the model to what its entry on disk asks for."""
        model = self._models.setdefault(name, Model(name))
        async with model.lock:
            if forget_failures:
                for record in model.versions.values():
                    record.failed_fingerprint = None
            try:
                if entry is None:
                    raise NotFound("no such model in the repository")
                config = await self._in_thread(model_loader.read_config, entry)
                wanted = model_loader.wanted_versions(entry, config)
            except OrtolanError as error:
                model.problem = error.message
                _log.error("model '%s' cannot be served: %s", name, error.message)
                return model
            model.problem = ""
            candidates = {number: Candidate(entry, config, version) for number, version in wanted.items()}
            await self._reconcile(model, candidates)
        return model

    async def _reconcile(self, model: Model, wanted: Mapping[int, Candidate]) -> None:
        fingerprints = {number: candidate.fingerprint for number, candidate in wanted.items()}
        model.forgive(fingerprints)
        while action := next_action(fingerprints, _present(model)):
            if isinstance(action, Load):
                await self._load_version(model, wanted[action.number])
            else:
                self._start_unloading(model, action.number)

    async def _load_version(self, model: Model, candidate: Candidate) -> None:
        record = model.versions.setdefault(candidate.version.number, VersionRecord())
        previous = record.serving
        if previous is None:
            record.advance(VersionState.LOADING)
        try:
            loaded = await self._in_thread(
                model_loader.load_version, candidate.entry, candidate.config, candidate.version, self._options
            )
        except OrtolanError as error:
            record.failed_fingerprint = candidate.fingerprint
            if previous is None:
                record.advance(VersionState.UNAVAILABLE, error.message)
                reason = f"cannot be served: {error.message}"
            else:
                reason = record.reason = f"the newer files failed to load: {error.message}"
            _log.error("model '%s' version %d: %s", model.name, candidate.version.number, reason)
            return
        self._put_in_service(model, record, loaded, candidate.fingerprint)
        if previous is not None:
            self._retire(previous)

    def _put_in_service(
        self, model: Model, record: VersionRecord, loaded: LoadedModel, fingerprint: Fingerprint
    ) -> None:
        for note in loaded.notes:
            _log.warning("model '%s' version %d: %s", loaded.name, loaded.number, note)
        serving = ModelVersion(loaded, self._limits, asyncio.get_running_loop())
        serving.start()
        if record.serving is None:
            record.advance(VersionState.READY)
        record.reason, record.fingerprint, record.failed_fingerprint = "", fingerprint, None
        record.serving = serving
        model.refresh_newest()

    def _start_unloading(self, model: Model, number: int) -> None:
        record = model.versions[number]
        serving = record.serving
        record.advance(VersionState.UNLOADING)
        record.serving, record.fingerprint = None, None
        model.refresh_newest()
        if serving is not None:
            self._retire(serving, record)

    def _retire(self, version: ModelVersion, record: VersionRecord | None = None) -> None:
        """Let ``version`` answer what it holds, then let go of it; ``record`` becomes UNAVAILABLE after that."""

        async def retire() -> None:
            version.refuse_new()
            await version.drained()
            await asyncio.to_thread(version.join, 10.0)
            self._retiring.discard(version)
            if record is not None and record.state is VersionState.UNLOADING:
                record.advance(VersionState.UNAVAILABLE, UNLOADED)

        self._retiring.add(version)
        task = asyncio.get_running_loop().create_task(retire())
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _in_thread(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The value of ``function``; what it raises that is no OrtolanError becomes Internal, with a log entry."""

        def guarded() -> _T:
            try:
                return function(*args, **kwargs)
            except OrtolanError:
                raise
            # A load that fails in an unforeseen way fails its model only, and says so in the index.
            except Exception as error:
                _log.exception("a load failed in an unforeseen way")
                raise Internal(f"unforeseen {type(error).__name__}; the server's log has the details") from error

        return await asyncio.get_running_loop().run_in_executor(self._load_threads, guarded)

    async def stop(self) -> None:
        """Refuse new requests of every version, and return once all that were inside are answered.

        Loads are given up at once; a thread that is inside one goes on until the runtime lets go of it.
        """
        for load in list(self._loads):
            load.cancel()
        self._load_threads.shutdown(wait=False, cancel_futures=True)
        versions = list(self.serving())
        for version in versions:
            version.refuse_new()
        await asyncio.gather(*(version.drained() for version in versions), *self._unloads)
        await asyncio.gather(*(asyncio.to_thread(version.join, 5.0) for version in versions))


def _version_number(version: str) -> int:
    # int() alone takes signs, spaces, underscores and the digits of other scripts as well.
    if not (version.isascii() and version.isdecimal() and len(version) <= _LONGEST_VERSION):
        raise InvalidArgument(f"a model version is a whole number, got '{version[:32]}'")
    return int(version)


def _version_of(path: str) -> str:
    """The version whose directory holds ``path``; "" for a file that belongs to all."""
    first, _, rest = path.partition("/")
    return first if rest and is_version_name(first) else ""


def _reason(record: VersionRecord, problem: str) -> str:
    """Why the version is as it is; one that serves although its model cannot be read any more says that."""
    return record.reason or (problem if record.state is VersionState.READY else "")


def _is_amiss(record: VersionRecord) -> bool:
    return record.serving is None and record.reason != UNLOADED and record.state is not VersionState.UNLOADING


def _present(model: Model) -> dict[int, PresentVersion]:
    return {
        number: PresentVersion(record.state, record.fingerprint, record.failed_fingerprint)
        for number, record in model.versions.items()
    }
