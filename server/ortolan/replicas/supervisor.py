"""Starts the replicas, begins those anew that end, and stops them all.

The first replica loads what is to be served, and compiles what is not compiled yet; the others then load the same
beside each other, with all that is measured and mapped already. None is ready before all are. This process takes no
connections and loads no model: it holds the ports, so that nobody else takes them, and passes on what clients change.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ortolan import logs
from ortolan.core.log_settings import LogControl
from ortolan.errors import OrtolanError, StartupError, Unavailable
from ortolan.frontends.listening import reserved_socket
from ortolan.replicas.channel import Gone
from ortolan.replicas.crew import READINESS, Crew
from ortolan.replicas.orphans import Orphans
from ortolan.replicas.replica_process import ReplicaProcess, how_it_ended
from ortolan.replicas.replica_settings import replica_settings
from ortolan.replicas.restarts import next_pause_s
from ortolan.service_manager import ServiceManager
from ortolan.settings import Settings

_log = logging.getLogger(__name__)
# Beyond what a replica may take to stop; what takes longer hangs.
_STOPPING_S = 15.0
# A replica is asked so often whether it answers, and ended when it does not within the time.
_LOOK_S = 5.0
_HANGING_S = 60.0
_ORPHANS_S = 1.0


def supervise(settings: Settings, service: ServiceManager) -> int:
    """Serve with ``settings.processes`` replicas until a signal comes; the exit code.

    Raises StartupError when they cannot start.
    """
    control = LogControl(settings.log_settings, logs.set_up(settings.log_settings, of_server=True))
    ports = _reserved(settings)
    try:
        numbers = {f"{door}_port": held.getsockname()[1] for door, held in ports.items()}
        return asyncio.run(Supervisor(replica_settings(settings, numbers), control, _print, service).run())
    finally:
        for held in ports.values():
            held.close()


def _reserved(settings: Settings) -> dict[str, socket.socket]:
    s = settings
    doors = {
        "http": (s.allow_http, s.http_address, s.http_port),
        "grpc": (s.allow_grpc and not s.one_port, s.grpc_address, s.grpc_port),
        "metrics": (s.allow_metrics, s.metrics_host, s.metrics_port),
    }
    return {
        door: reserved_socket(address, port, f"--{door}-port")
        for door, (is_open, address, port) in doors.items()
        if is_open
    }


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - for people, as a single process does


class Supervisor:
    """Of one server. ``announce`` is called with what to tell people once all replicas serve."""

    def __init__(
        self, settings: Settings, log_control: LogControl, announce: Callable[[str], None], service: ServiceManager
    ) -> None:
        """``settings`` are those of each replica."""
        self._settings = settings
        self._log_control = log_control
        self._announce = announce
        self._service = service
        self._crew = Crew(self._note)
        self._running: dict[int, ReplicaProcess] = {}
        self._first_loaded, self._stopping = asyncio.Event(), asyncio.Event()
        self._loaded = 0
        self._all_loaded = asyncio.Event()
        self._code = 0
        self._problem = ""
        self._stops: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until a signal comes, or a replica cannot start; the exit code. Raises StartupError for the latter."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, self._settings.drain_delay_secs)
        loop.add_signal_handler(signal.SIGINT, self._stop, 0.0)
        # Who began it with nohup wants it to outlast the terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._stop, self._settings.drain_delay_secs)
        numbers = range(1, self._settings.processes + 1)
        keeping = [asyncio.create_task(self._keep(number)) for number in numbers]
        watching = [asyncio.create_task(work) for work in (self._watch(), _take_orphans(), self._service.keep_alive())]
        self._service.loading()
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in watching:
                task.cancel()
            for replica in self._running.values():
                replica.kill()
        if self._problem:
            raise StartupError(self._problem)
        _log.info("stopped")
        return self._code

    # -- one replica ---------------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have the replica run until the server stops."""
        loop, pause_s = asyncio.get_running_loop(), 0.0
        while not self._stopping.is_set():
            start_s = loop.time()
            how = await self._run_once(number)
            if self._stopping.is_set():
                return
            pause_s = next_pause_s(pause_s, loop.time() - start_s)
            self._crew.restarts += 1
            others = len(self._crew.members)
            _log.error("replica %d ended %s; %d serve on; another begins in %g s", number, how, others, pause_s)
            await self._rest(pause_s)

    async def _run_once(self, number: int) -> str:
        """Start it, and return how it ended."""
        try:
            replica = await self._started(number)
        except OSError as error:
            self._fail_start(f"a process cannot be started: {error.strerror}", 1)
            return f"before it began ({error.strerror})"
        self._running[number] = replica
        if self._stopping.is_set():
            self._stop_one(replica, 0.0)
        bringing_up = asyncio.create_task(self._bring_up(replica))
        try:
            code = await replica.ended()
        finally:
            self._crew.leave(replica)
            del self._running[number]
            bringing_up.cancel()
        self._note_end(replica, code)
        return how_it_ended(code)

    async def _started(self, number: int) -> ReplicaProcess:
        introduction = {"settings": self._settings.model_dump(mode="json"), "opens_late": self._crew.complete}

        async def answer(name: str, arguments: Sequence[Any]) -> Any:
            if name == "perform":
                return await self._crew.perform(*arguments)
            if name == "gather":
                return await self._crew.gather(*arguments)
            if name == "problem":
                self._hear(number, str(arguments[0]))
                return None
            raise Unavailable(f"no supervisor knows of '{name}'")

        return await ReplicaProcess.start(number, introduction, answer)

    def _hear(self, number: int, problem: str) -> None:
        """Why a replica cannot start: the end of the server, or of one try."""
        if self._crew.complete:
            _log.error("replica %d cannot start: %s", number, problem)
        else:
            self._problem = self._problem or problem

    async def _bring_up(self, replica: ReplicaProcess) -> None:
        """From its start to its service."""
        try:
            if self._crew.complete:
                await replica.load()
                await self._crew.join(replica)
                await replica.open()
                replica.serves = True
                _log.info("replica %d serves (process %d)", replica.number, replica.pid)
                await self._tell_missing(replica)
            else:
                await self._bring_up_at_start(replica)
        except Gone:
            return
        except OrtolanError as error:
            _log.error("replica %d cannot be brought to where the others are: %s", replica.number, error)
            replica.kill()

    async def _tell_missing(self, replica: ReplicaProcess) -> None:
        with contextlib.suppress(OrtolanError):
            if missing := await self._crew.missing_in(replica):
                _log.error("replica %d serves without what others have: %s", replica.number, ", ".join(missing))

    async def _bring_up_at_start(self, replica: ReplicaProcess) -> None:
        if replica.number > 1:
            await self._first_loaded.wait()
        await replica.load()
        self._first_loaded.set()
        await self._crew.join(replica)
        replica.serves = True
        if len(self._crew.members) == self._settings.processes:
            self._all_loaded.set()
        await self._all_loaded.wait()
        text = await replica.open()
        self._loaded += 1
        if self._loaded == self._settings.processes:
            self._crew.complete = True
            self._announce(text)
            self._service.ready(f"replicas that serve: {self._loaded}")

    def _note_end(self, replica: ReplicaProcess, code: int) -> None:
        if not self._crew.complete and not self._stopping.is_set():
            self._fail_start(self._problem, code if code > 0 else 1)
            if not self._problem and code < 0:
                _log.error("replica %d ended %s before it served", replica.number, how_it_ended(code))
        elif self._stopping.is_set() and code and replica.serves:
            self._code = self._code or 1

    def _fail_start(self, problem: str, code: int) -> None:
        """What cannot start once is not tried again, unless it did before."""
        if self._crew.complete:
            return
        self._problem, self._code = problem, self._code or code
        self._stop(0.0)

    async def _rest(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        except TimeoutError:
            return

    # -- all of them ---------------------------------------------------------------------------------------------

    def _stop(self, delay_s: float) -> None:
        """On a signal; a second one ends the waiting."""
        delay_s = 0.0 if self._stopping.is_set() else delay_s
        self._stopping.set()
        self._service.stopping()
        for replica in self._running.values():
            self._stop_one(replica, delay_s)

    def _stop_one(self, replica: ReplicaProcess, delay_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._end(replica, delay_s))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _end(self, replica: ReplicaProcess, delay_s: float) -> None:
        if not replica.serves:
            # Nobody asks it yet, and it may not listen to us for a while.
            replica.terminate()
        limit_s = delay_s + self._settings.exit_timeout_secs + _STOPPING_S
        try:
            await asyncio.wait_for(replica.stop(delay_s), limit_s)
            await asyncio.wait_for(replica.ended(), limit_s)
        except TimeoutError:
            _log.error("replica %d does not end; ending it", replica.number)
            replica.kill()

    async def _watch(self) -> None:
        """End replicas that hang: who is connected to one waits for nothing."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*(self._look_at(replica) for replica in [*self._crew.members] if replica.serves))

    async def _look_at(self, replica: ReplicaProcess) -> None:
        try:
            await asyncio.wait_for(replica.act(READINESS, ()), _HANGING_S)
        except TimeoutError:
            _log.error("replica %d has not answered for %g s; ending it", replica.number, _HANGING_S)
            replica.kill()
        except OrtolanError:
            return

    def _note(self, action: str, arguments: Sequence[Any]) -> None:
        """What clients change of the log is changed here, too."""
        if action == "log":
            change: Mapping[str, object] = arguments[0]
            self._log_control.change(change)


async def _take_orphans() -> None:
    orphans = Orphans()
    while True:
        await asyncio.sleep(_ORPHANS_S)
        orphans.take_ended()
