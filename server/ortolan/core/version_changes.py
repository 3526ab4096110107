"""Performs the reconciler's actions on a model's records: loads versions, puts them in service, retires them."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from ortolan.core import model_loader
from ortolan.core.ensemble_loader import EnsembleLoader
from ortolan.core.load_failure import LoadFailure, Origin
from ortolan.core.load_notes import LoadNotes
from ortolan.core.load_threads import LoadThreads
from ortolan.core.memory_amount import shown
from ortolan.core.memory_budget import Claim, MemoryBudget
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import UNLOADED, Candidate, Model, VersionRecord
from ortolan.core.model_version import ModelVersion
from ortolan.core.reconciler import Fingerprint, Load, next_action
from ortolan.core.response_cache import ResponseCache
from ortolan.core.retirement import Retirement
from ortolan.core.served_version import ServedVersion
from ortolan.core.version_state import VersionState
from ortolan.errors import OrtolanError, OutOfMemory
from ortolan.execution.request_queue import QueueLimits

_log = logging.getLogger(__name__)
# What a session holds beside its weights: the first piece of its arena, above all.
_SESSION_BYTES = 5 << 18


class VersionChanges:
    """Changes one model's versions at a time; who calls holds the model's lock. Lives on the event loop."""

    def __init__(
        self,
        options: LoadingOptions,
        limits: QueueLimits,
        load_threads: LoadThreads,
        retirement: Retirement,
        ensembles: EnsembleLoader,
        memory: MemoryBudget,
        cache: ResponseCache | None = None,
    ) -> None:
        """Without ``cache`` no model keeps its answers."""
        self._memory = memory
        self._options = options
        self._limits = limits
        self._load_threads = load_threads
        self._retirement = retirement
        self._ensembles = ensembles
        self._cache = cache

    async def reconcile(self, model: Model, wanted: Mapping[int, Candidate]) -> None:
        """Load and unload until the model's versions are those ``wanted``, by number; failures are in its records."""
        fingerprints = {number: candidate.fingerprint for number, candidate in wanted.items()}
        model.forgive(fingerprints)
        if not wanted:
            self._retirement.open_sequences.let_go(model.name)
        notes = LoadNotes(model.name)
        try:
            while action := next_action(fingerprints, model.present()):
                if isinstance(action, Load):
                    await self._load_version(model, wanted[action.number], notes)
                else:
                    self._start_unloading(model, action.number)
        finally:
            notes.tell()

    async def _load_version(self, model: Model, candidate: Candidate, notes: LoadNotes) -> None:
        with self._memory.claim(model.name) as claim:
            await self._load_with(claim, model, candidate, notes)

    async def _load_with(self, claim: Claim, model: Model, candidate: Candidate, notes: LoadNotes) -> None:
        record = model.versions.setdefault(candidate.version.number, VersionRecord())
        record.was_listed = record.was_listed or candidate.origin is not Origin.SENT_FILES
        record.incomplete = False
        previous = record.serving
        if previous is None:
            record.advance(VersionState.LOADING)
        try:
            loaded = await self._loaded(candidate, claim, record, notes)
        except OrtolanError as error:
            failure = LoadFailure(error, candidate.origin, previous is not None, candidate.patience_s)
            self._note_failure(model.name, candidate, record, failure)
            return
        self._put_in_service(model, record, loaded, candidate.fingerprint)
        if previous is not None:
            self._retirement.retire(previous)

    def _note_failure(self, name: str, candidate: Candidate, record: VersionRecord, failure: LoadFailure) -> None:
        record.failed_fingerprint = candidate.fingerprint
        record.lacks_memory = isinstance(failure.error, OutOfMemory)
        record.incomplete = failure.is_passing
        if not failure.serves_on:
            record.advance(VersionState.UNAVAILABLE)
        if not failure.is_passing:
            _tell_failure(name, candidate, record, failure)
            return
        record.reason = failure.passing_reason
        _log.warning("model '%s' version %d: %s", name, candidate.version.number, failure.logged_as_passing(name))
        loop = asyncio.get_running_loop()
        loop.call_later(failure.patience_s, _end_patience, name, candidate, record, failure)

    async def _loaded(
        self, candidate: Candidate, claim: Claim, record: VersionRecord, notes: LoadNotes
    ) -> ServedVersion:
        """The version, not started yet. Raises OutOfMemory when there is no room for it."""
        config, number = candidate.config, candidate.version.number
        if config.response_cache and self._cache is None:
            notes.add(number, ["response_cache has no effect without --cache-config=local,size=BYTES"])
        if config.is_ensemble:
            notes.add(number, config.warnings)
            return await self._ensembles.load(candidate)
        await claim.reserve(expected_bytes(candidate, record))
        loaded = await self._load_threads.run(
            self._memory.meter.measured,
            claim.use,
            partial(model_loader.load_version, candidate.entry, config, candidate.version, self._options),
        )
        record.size = (candidate.file_bytes, claim.use.size_bytes)
        try:
            await claim.confirm()
        except OutOfMemory:
            loaded.remove_files()
            raise
        notes.add(number, loaded.notes)
        sequences = self._retirement.open_sequences
        return ModelVersion(loaded, self._limits, asyncio.get_running_loop(), self._cache, sequences, claim.use)

    def _put_in_service(
        self, model: Model, record: VersionRecord, serving: ServedVersion, fingerprint: Fingerprint
    ) -> None:
        serving.start()
        replaced = {old for old in (record.serving, model.newest) if isinstance(old, ModelVersion)}
        if record.serving is None:
            record.advance(VersionState.READY)
        record.reason, record.fingerprint, record.failed_fingerprint, record.incomplete = "", fingerprint, None, False
        record.lacks_memory = False
        record.serving = serving
        model.refresh_newest()
        for old in replaced:
            if old is not model.newest:
                self._retirement.open_sequences.keep(old)
        _log.info("model '%s' version %d is ready (loaded in %s)", model.name, serving.number, _effort(serving))

    def withdraw(self, model: Model, reason: str) -> None:
        """Unload what serves of an ensemble that cannot be had any more, for ``reason``."""
        for number, record in model.versions.items():
            if record.serving is not None:
                _log.warning("model '%s' version %d: %s", model.name, number, reason)
                self._start_unloading(model, number, reason)

    def unload(self, model: Model, reason: str) -> None:
        """Unload what serves of a model that the server can do without, for ``reason``."""
        model.dismissed = True
        for number, record in model.versions.items():
            if record.serving is not None:
                _log.info("model '%s' version %d: %s", model.name, number, reason)
                self._start_unloading(model, number, reason)

    def _start_unloading(self, model: Model, number: int, reason: str = UNLOADED) -> None:
        record = model.versions[number]
        serving = record.serving
        record.advance(VersionState.UNLOADING)
        record.serving, record.fingerprint, record.incomplete = None, None, False
        model.refresh_newest()
        if serving is not None:
            self._retirement.retire(serving, lambda: _end_unloading(model.name, number, record, reason))


def _tell_failure(name: str, candidate: Candidate, record: VersionRecord, failure: LoadFailure) -> None:
    record.reason = failure.reason
    _log.error("model '%s' version %d: %s", name, candidate.version.number, failure.logged(name))


def _end_patience(name: str, candidate: Candidate, record: VersionRecord, failure: LoadFailure) -> None:
    """Its files have not changed for long: nobody is copying them."""
    if record.incomplete and record.failed_fingerprint == candidate.fingerprint:
        record.incomplete = False
        _tell_failure(name, candidate, record, failure)


def _effort(serving: ServedVersion) -> str:
    """How long the load took, and where the version is."""
    seconds = f"{serving.statistics.load_duration_ns / 1e9:.2f} s"
    if serving.loaded is None:
        return f"{seconds}, from other models"
    devices = serving.loaded.devices
    source = " from the compiled cache" if serving.loaded.maps_compiled else ""
    places = ", ".join(f"{device} x{devices.count(device)}" for device in dict.fromkeys(devices))
    return f"{seconds}{source} on {places}; {shown(serving.memory.size_bytes)} of memory"


def expected_bytes(candidate: Candidate, record: VersionRecord) -> int:
    """The memory that a load will take, for all that is known: what it took with such files before, or their size."""
    if record.size is not None and record.size[0] == candidate.file_bytes:
        return record.size[1]
    return candidate.file_bytes + _SESSION_BYTES


def _end_unloading(name: str, number: int, record: VersionRecord, reason: str) -> None:
    _log.info("model '%s' version %d is unloaded", name, number)
    # It may have been loaded again in the meantime.
    if record.state is VersionState.UNLOADING:
        record.advance(VersionState.UNAVAILABLE, reason)
