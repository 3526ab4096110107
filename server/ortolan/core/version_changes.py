"""Performs the reconciler's actions on a model's records: loads versions, puts them in service, retires them."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from ortolan.core import model_loader
from ortolan.core.ensemble_loader import EnsembleLoader
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import UNLOADED, Candidate, Model, VersionRecord
from ortolan.core.model_version import ModelVersion
from ortolan.core.reconciler import Fingerprint, Load, next_action
from ortolan.core.response_cache import ResponseCache
from ortolan.core.retirement import Retirement
from ortolan.core.served_version import ServedVersion
from ortolan.core.version_state import VersionState
from ortolan.errors import OrtolanError
from ortolan.execution.request_queue import QueueLimits

_log = logging.getLogger(__name__)


class VersionChanges:
    """Changes one model's versions at a time; who calls holds the model's lock. Lives on the event loop."""

    def __init__(
        self,
        options: LoadingOptions,
        limits: QueueLimits,
        load_threads: LoadThreads,
        retirement: Retirement,
        ensembles: EnsembleLoader,
        cache: ResponseCache | None = None,
    ) -> None:
        """Without ``cache`` no model keeps its answers."""
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
        while action := next_action(fingerprints, model.present()):
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
            loaded = await self._loaded(candidate)
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
            self._retirement.retire(previous)

    async def _loaded(self, candidate: Candidate) -> ServedVersion:
        """The version, not started yet."""
        config = candidate.config
        if config.response_cache and self._cache is None:
            self._note(candidate, ["response_cache has no effect without --cache-config=local,size=BYTES"])
        if config.is_ensemble:
            self._note(candidate, config.warnings)
            return await self._ensembles.load(candidate)
        loaded = await self._load_threads.run(
            model_loader.load_version, candidate.entry, config, candidate.version, self._options
        )
        self._note(candidate, loaded.notes)
        return ModelVersion(loaded, self._limits, asyncio.get_running_loop(), self._cache)

    def _note(self, candidate: Candidate, notes: Iterable[str]) -> None:
        for note in notes:
            _log.warning("model '%s' version %d: %s", candidate.config.name, candidate.version.number, note)

    def _put_in_service(
        self, model: Model, record: VersionRecord, serving: ServedVersion, fingerprint: Fingerprint
    ) -> None:
        serving.start()
        if record.serving is None:
            record.advance(VersionState.READY)
        record.reason, record.fingerprint, record.failed_fingerprint = "", fingerprint, None
        record.serving = serving
        model.refresh_newest()
        _log.info("model '%s' version %d is ready (loaded in %s)", model.name, serving.number, _effort(serving))

    def withdraw(self, model: Model, reason: str) -> None:
        """Unload what serves of an ensemble that cannot be had any more, for ``reason``."""
        for number, record in model.versions.items():
            if record.serving is not None:
                _log.warning("model '%s' version %d: %s", model.name, number, reason)
                self._start_unloading(model, number, reason)

    def _start_unloading(self, model: Model, number: int, reason: str = UNLOADED) -> None:
        record = model.versions[number]
        serving = record.serving
        record.advance(VersionState.UNLOADING)
        record.serving, record.fingerprint = None, None
        model.refresh_newest()
        if serving is not None:
            self._retirement.retire(serving, lambda: _end_unloading(model.name, number, record, reason))


def _effort(serving: ServedVersion) -> str:
    """How long the load took, and where the version is."""
    seconds = f"{serving.statistics.load_duration_ns / 1e9:.2f} s"
    if serving.loaded is None:
        return f"{seconds}, from other models"
    devices = serving.loaded.devices
    return f"{seconds} on " + ", ".join(f"{device} x{devices.count(device)}" for device in dict.fromkeys(devices))


def _end_unloading(name: str, number: int, record: VersionRecord, reason: str) -> None:
    _log.info("model '%s' version %d is unloaded", name, number)
    # It may have been loaded again in the meantime.
    if record.state is VersionState.UNLOADING:
        record.advance(VersionState.UNAVAILABLE, reason)
