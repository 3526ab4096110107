"""The process: build the parts, start, become ready, drain, stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from ortolan.access_options import doorkeepers
from ortolan.core.access_log import AccessLog, Write
from ortolan.core.inference_core import InferenceCore
from ortolan.core.load_threads import LOAD_THREADS
from ortolan.core.log_settings import LogControl, LogSettings
from ortolan.core.model_manager import ModelManager
from ortolan.core.repository_watch import RepositoryWatch
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.core.shared_tensors import SharedTensors
from ortolan.execution.thread_turns import take_short_turns
from ortolan.listeners import Listeners, open_listeners
from ortolan.managed_models import memory_limit
from ortolan.membership import Alone, Membership
from ortolan.service_manager import ServiceManager
from ortolan.settings import Settings
from ortolan.trace_options import tracing_of

_log = logging.getLogger(__name__)
_WORKERS = "worker"

# Threads without work end within this.
_ENDING_S = 0.1


class Server:
    """One process of Ortolan."""

    def __init__(
        self,
        settings: Settings,
        manager: ModelManager,
        announce: Callable[["Server"], None],
        apply_log_settings: Callable[[LogSettings], None],
        membership: Membership | None = None,
        service: ServiceManager | None = None,
        write_access: Write | None = None,
    ) -> None:
        """Build what needs no port; ``announce`` is called once the models are loaded and every door is open.

        ``apply_log_settings`` makes the process log otherwise, ``write_access`` writes lines of the access log. Without
        ``membership`` it is alone on its ports. Raises StartupError for a wrong ``--trace-config``.
        """
        self.settings = settings
        self._announce = announce
        self._membership: Membership = membership or Alone()
        self._service = service or ServiceManager()
        self.manager = manager
        self.core = InferenceCore(
            self.manager,
            settings.id,
            settings.model_control_mode,
            settings.strict_readiness,
            tracing_of(settings, self._membership.number),
            LogControl(settings.log_settings, apply_log_settings),
            SharedTensors(SharedMemoryRegions(settings.allow_client_shm), settings.max_queue_bytes),
            self._membership.processes,
            _access_log(settings, write_access),
        )
        self._workers = ThreadPoolExecutor(thread_name_prefix=_WORKERS)
        self._end_s = 0.0
        self._stopping: asyncio.Event = asyncio.Event()
        self._stopped_by: set[str] = set()
        self._drain_delay_s = 0.0
        self.listeners: Listeners

    async def run(self) -> int:
        """Serve until a signal comes; the process' exit code. Raises StartupError when a port is taken."""
        take_short_turns()
        asyncio.get_running_loop().set_default_executor(self._workers)
        self._watch_signals()
        self._service.loading()
        # A reference of its own: the loop keeps none.
        self._limiting = asyncio.create_task(memory_limit(self.settings).keep())
        opens_late = self._membership.opens_late or self.settings.listen_when_loaded
        loading = asyncio.create_task(self._load_models()) if opens_late else None
        if loading and not await self._has_loaded(loading):
            _end_process(0 if self._stopping.is_set() else 1)
        access = await doorkeepers(self.settings)
        self.listeners = open_listeners(self.core, self.settings, access)
        # What is there by now stays. To look through it for cycles, as Python does from time to time, holds up all
        # threads for 20 ms and more.
        gc.freeze()
        tasks = [asyncio.create_task(http.listen()) for http in (self.listeners.http, self.listeners.metrics) if http]
        if self.listeners.grpc:
            await self.listeners.grpc.start()
        loading = loading or asyncio.create_task(self._load_models())
        keepers = (*access.keepers, *self.listeners.keepers, self._service.keep_alive)
        keeping = [asyncio.create_task(keep()) for keep in keepers]
        try:
            code = await self._serve(loading)
        finally:
            loading.cancel()
            await self._close(tasks)
            for task in keeping:
                task.cancel()
        if _models_run() or self._work_outlasts():
            _log.error("requests were still running after --exit-timeout-secs; ending without them")
            _end_process(1)
        _log.info("stopped")
        if loading.cancelled() or _models_load():
            _end_process(code)
        return code

    async def _serve(self, loading: asyncio.Task[bool]) -> int:
        """Serve from the end of ``loading`` to the signal; the exit code."""
        if await self._stopped_before(loading):
            return 0
        if not loading.result():
            return 1
        await self._serve_until_stopped()
        return 0

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, delay_s in ((signal.SIGTERM, self.settings.drain_delay_secs), (signal.SIGINT, 0.0)):
            if sys.platform == "win32":
                signal.signal(number, lambda *_, d=delay_s: loop.call_soon_threadsafe(self.stop_after, d))
            else:
                loop.add_signal_handler(number, self.stop_after, delay_s)

    def stop_after(self, delay_s: float, by: str = "a signal") -> None:
        """Be not ready at once, and answer on for so long. Told again ``by`` the same, end the waiting.

        Who signals all processes at once reaches a replica twice: by its supervisor as well, and in any order.
        """
        if not self.core.draining:
            self._drain_delay_s = delay_s
            self.core.set_draining()
            self._service.stopping()
        elif by in self._stopped_by or not delay_s:
            self._drain_delay_s = 0.0
        self._stopped_by.add(by)
        self._stopping.set()

    async def _load_models(self) -> bool:
        """Load what is to be served at the start. False when something failed and the operator wants an exit then.

        One that takes the place of another begins with what can be loaded: the others serve the rest.
        """
        await self._membership.before_loads(self)
        names = self._startup_names()
        await self.manager.load_all(names, wait_for_roots=self.settings.model_control_mode == "poll")
        failures = self.manager.failures()
        if failures and self.settings.exit_on_error and not self._membership.opens_late:
            _log.error("exiting because a model failed to load; --exit-on-error=false serves the others all the same")
            return False
        await self._membership.after_loads()
        self.core.set_started()
        return True

    async def _stopped_before(self, loading: asyncio.Task[bool]) -> bool:
        """Whether a signal came while models load: nobody sends requests yet, so nothing is to be drained."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return not loading.done()

    async def _has_loaded(self, loading: asyncio.Task[bool]) -> bool:
        return not await self._stopped_before(loading) and loading.result()

    def _startup_names(self) -> tuple[str, ...] | None:
        s = self.settings
        if s.load_model == ("*",) or (s.model_control_mode != "explicit" and not s.load_on_demand):
            return None
        return (*s.load_model, *(s.pin_model if s.load_on_demand else ()))

    async def _serve_until_stopped(self) -> None:
        self._announce(self)
        self._service.ready(f"versions of models that are served: {sum(1 for _ in self.manager.serving())}")
        self.manager.compiled.begin_serving()
        background = [asyncio.create_task(self.manager.watch()), asyncio.create_task(self.manager.residency.watch())]
        if self.settings.model_control_mode == "poll":
            background += [asyncio.create_task(self._poll()), asyncio.create_task(self._fetch())]
        await self._stopping.wait()
        await self._drain_delay()
        for task in background:
            task.cancel()

    async def _poll(self) -> None:
        s = self.settings
        await RepositoryWatch(self.manager.roots, s.repository_poll_secs, s.repository_quiet_secs).run(self._follow)

    async def _fetch(self) -> None:
        """Look from time to time at repositories that are elsewhere; what comes of it ``_poll`` finds on the disk."""
        while True:
            await asyncio.sleep(self.settings.repository_poll_secs)
            try:
                await self.manager.fetch()
            # Each problem that can be foreseen is logged; whatever else it was is no reason to stop looking.
            except Exception:
                _log.exception("fetching models failed in an unforeseen way; trying again later")

    async def _follow(self) -> bool:
        """Follow the repository; whether to look again soon."""
        try:
            return await self.manager.follow()
        # Whatever it was, a server that follows its repository does not stop doing so in silence.
        except Exception:
            _log.exception("following the model repository failed in an unforeseen way; trying again later")
            return False

    async def _drain_delay(self) -> None:
        """Answer on, not ready, until balancers have had time to notice; a second signal ends it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_delay_s
        _log.info("draining: not ready; answering on for %g s, then finishing what is inside", self._drain_delay_s)
        while self._drain_delay_s and (left := end - loop.time()) > 0:
            self._stopping.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), left)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        """Finish what is in flight, within the grace period, and let go of everything."""
        loop = asyncio.get_running_loop()
        grace_s = self.settings.exit_timeout_secs
        self._end_s = end = loop.time() + grace_s
        self.manager.refuse_loads()
        servers = [http for http in (self.listeners.http, self.listeners.metrics) if http]
        await asyncio.gather(*(http.stop() for http in servers))
        closing = [self.listeners.grpc.stop(grace_s)] if self.listeners.grpc else []
        await asyncio.gather(*closing, *tasks)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.manager.stop(), max(0.5, end - loop.time()))
        # Here and now: nobody is served any more, and the workers may all be stuck.
        self.core.tracing.close()
        if self.core.access_log is not None:
            self.core.access_log.close()

    def _work_outlasts(self) -> bool:
        """Whether a worker is still at something, for whose end the interpreter would wait, after the grace period."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        workers = _threads(_WORKERS)
        for worker in workers:
            worker.join(max(_ENDING_S, self._end_s - asyncio.get_running_loop().time()))
        return any(worker.is_alive() for worker in workers)


def _access_log(settings: Settings, write: Write | None) -> AccessLog | None:
    if settings.access_log == "off" or write is None:
        return None
    probes = (settings.vertex_ai_health_route,) if settings.allow_vertex_ai else ()
    return AccessLog(write, settings.access_log, probes)


def _models_run() -> bool:
    """Whether an instance's thread is still inside its model."""
    return any(thread.name.startswith("instance ") for thread in threading.enumerate())


def _models_load() -> bool:
    """Whether a thread is still inside a load, for whose end the interpreter would wait."""
    threads = _threads(LOAD_THREADS)
    for thread in threads:
        thread.join(_ENDING_S)
    return any(thread.is_alive() for thread in threads)


def _threads(pool: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{pool}_")]


def _end_process(code: int) -> NoReturn:
    """End at once: the interpreter's own way out waits for a load, and aborts under a model that runs."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
