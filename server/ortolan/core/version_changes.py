"""Performs the reconciler's actions on a model's records: loads versions, puts them in service, retires them."""

import asyncio
import logging
from collections.abc import Mapping

from ortolan.core import model_loader
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_records import UNLOADED, Candidate, Model, VersionRecord
from ortolan.core.model_version import LoadedModel, ModelVersion
from ortolan.core.reconciler import Fingerprint, Load, next_action
from ortolan.core.retirement import Retirement
from ortolan.core.version_state import VersionState
from ortolan.errors import OrtolanError
from ortolan.execution.request_queue import QueueLimits

_log = logging.getLogger(__name__)


class VersionChanges:
    """Changes one model's versions at a time; who calls holds the model's lock. Lives on the event loop."""

    def __init__(
        self, options: LoadingOptions, limits: QueueLimits, load_threads: LoadThreads, retirement: Retirement
    ) -> None:
        self._options = options
        self._limits = limits
        self._load_threads = load_threads
        self._retirement = retirement

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
            loaded = await self._load_threads.run(
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
            self._retirement.retire(previous)

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
        places = ", ".join(f"{device} x{loaded.devices.count(device)}" for device in dict.fromkeys(loaded.devices))
        seconds = loaded.load_duration_ns / 1e9
        _log.info("model '%s' version %d is ready (loaded in %.2f s on %s)", model.name, loaded.number, seconds, places)

    def _start_unloading(self, model: Model, number: int) -> None:
        record = model.versions[number]
        serving = record.serving
        record.advance(VersionState.UNLOADING)
        record.serving, record.fingerprint = None, None
        model.refresh_newest()
        if serving is not None:
            self._retirement.retire(serving, lambda: _end_unloading(model.name, number, record))


def _end_unloading(name: str, number: int, record: VersionRecord) -> None:
    _log.info("model '%s' version %d is unloaded", name, number)
    # It may have been loaded again in the meantime.
    if record.state is VersionState.UNLOADING:
        record.advance(VersionState.UNAVAILABLE, UNLOADED)
