"""The process: build the parts, start, become ready, drain, stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import uvicorn

from ortolan.core.inference_core import InferenceCore
from ortolan.core.load_threads import LOAD_THREADS
from ortolan.core.log_settings import LogControl, LogSettings
from ortolan.core.model_manager import ModelManager
from ortolan.core.repository_watch import RepositoryWatch
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.core.shared_tensors import SharedTensors
from ortolan.core.trace_config import parse_trace_config
from ortolan.core.tracing import Tracing
from ortolan.execution.thread_turns import take_short_turns
from ortolan.frontend_options import grpc_options, rest_options
from ortolan.frontends.grpc.server import GrpcServer
from ortolan.frontends.listening import listening_socket
from ortolan.frontends.metrics import metrics_app
from ortolan.frontends.rest.app import RestApp
from ortolan.settings import Settings

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 120
_WORKERS = "worker"
# Threads without work end within this.
_ENDING_S = 0.1


class HttpServer(uvicorn.Server):
    """Uvicorn on a socket of ours, which leaves the process' signals alone."""

    def __init__(self, app: Any, address: str, port: int, flag: str, grace_s: float) -> None:
        """Bind ``address``:``port`` (0 picks a free port). Raises StartupError as ``listening_socket`` does."""
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            # Longer than clients and balancers keep idle connections (60 s is common): who closes first must be the
            # one that sends, or a request meets a connection that is just being closed.
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(grace_s)),
            backlog=2048,
        )
        super().__init__(config)
        self._socket = listening_socket(address, port, flag)
        self.port: int = self._socket.getsockname()[1]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listen(self) -> None:
        await self.serve([self._socket])


@dataclass(frozen=True, slots=True)
class Listeners:
    """The open doors; None for one that the operator closed."""

    http: HttpServer | None
    metrics: HttpServer | None
    grpc: GrpcServer | None


class Server:
    """One process of Ortolan."""

    def __init__(
        self,
        settings: Settings,
        manager: ModelManager,
        announce: Callable[["Server"], None],
        apply_log_settings: Callable[[LogSettings], None],
    ) -> None:
        """Build what needs no port; ``announce`` is called once the models are loaded and every door is open.

        ``apply_log_settings`` makes the process log otherwise. Raises StartupError for a wrong ``--trace-config``.
        """
        self.settings = settings
        self._announce = announce
        self.manager = manager
        self.core = InferenceCore(
            self.manager,
            settings.id,
            settings.model_control_mode,
            settings.strict_readiness,
            Tracing(parse_trace_config(settings.trace_config)),
            LogControl(settings.log_settings, apply_log_settings),
            SharedTensors(SharedMemoryRegions(settings.allow_client_shm), settings.max_queue_bytes),
        )
        self._workers = ThreadPoolExecutor(thread_name_prefix=_WORKERS)
        self._end_s = 0.0
        self._stopping: asyncio.Event = asyncio.Event()
        self._drain_delay_s = 0.0
        self.listeners: Listeners

    async def run(self) -> int:
        """Serve until a signal comes; the process' exit code. Raises StartupError when a port is taken."""
        take_short_turns()
        asyncio.get_running_loop().set_default_executor(self._workers)
        self.listeners = self._open()
        # What is there by now stays. To look through it for cycles, as Python does from time to time, holds up all
        # threads for 20 ms and more.
        gc.freeze()
        self._watch_signals()
        tasks = [asyncio.create_task(http.listen()) for http in (self.listeners.http, self.listeners.metrics) if http]
        if self.listeners.grpc:
            await self.listeners.grpc.start()
        loading = asyncio.create_task(self._load_models())
        try:
            code = await self._serve(loading)
        finally:
            loading.cancel()
            await self._close(tasks)
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

    def _open(self) -> Listeners:
        s = self.settings
        http = metrics = grpc = None
        if s.allow_http:
            app = RestApp(self.core, rest_options(s))
            http = HttpServer(app, s.http_address, s.http_port, "--http-port", s.exit_timeout_secs)
        if s.allow_metrics:
            metrics = HttpServer(metrics_app(self.core), s.metrics_host, s.metrics_port, "--metrics-port", 1)
        if s.allow_grpc:
            grpc = GrpcServer(self.core, s.grpc_address, s.grpc_port, grpc_options(s))
        return Listeners(http, metrics, grpc)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, delay_s in ((signal.SIGTERM, self.settings.drain_delay_secs), (signal.SIGINT, 0.0)):
            if sys.platform == "win32":
                signal.signal(number, lambda *_, d=delay_s: loop.call_soon_threadsafe(self._stop_after, d))
            else:
                loop.add_signal_handler(number, self._stop_after, delay_s)

    def _stop_after(self, delay_s: float) -> None:
        """On a signal: be not ready at once; a second signal ends the waiting."""
        if self.core.draining:
            self._drain_delay_s = 0.0
        else:
            self._drain_delay_s = delay_s
            self.core.set_draining()
        self._stopping.set()

    async def _load_models(self) -> bool:
        """Load what is to be served at the start. False when something failed and the operator wants an exit then."""
        names = self._startup_names()
        await self.manager.load_all(names, wait_for_roots=self.settings.model_control_mode == "poll")
        failures = self.manager.failures()
        if failures and self.settings.exit_on_error:
            _log.error("exiting because a model failed to load; --exit-on-error=false serves the others all the same")
            return False
        self.core.set_started()
        return True

    async def _stopped_before(self, loading: asyncio.Task[bool]) -> bool:
        """Whether a signal came while models load: nobody sends requests yet, so nothing is to be drained."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return not loading.done()

    def _startup_names(self) -> tuple[str, ...] | None:
        s = self.settings
        if s.load_model == ("*",) or (s.model_control_mode != "explicit" and not s.load_on_demand):
            return None
        return (*s.load_model, *(s.pin_model if s.load_on_demand else ()))

    async def _serve_until_stopped(self) -> None:
        self._announce(self)
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
        for http in servers:
            http.should_exit = True
        closing = [self.listeners.grpc.stop(grace_s)] if self.listeners.grpc else []
        await asyncio.gather(*closing, *tasks)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.manager.stop(), max(0.5, end - loop.time()))
        # Here and now: nobody is served any more, and the workers may all be stuck.
        self.core.tracing.close()

    def _work_outlasts(self) -> bool:
        """Whether a worker is still at something, for whose end the interpreter would wait, after the grace period."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        workers = _threads(_WORKERS)
        for worker in workers:
            worker.join(max(_ENDING_S, self._end_s - asyncio.get_running_loop().time()))
        return any(worker.is_alive() for worker in workers)


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
