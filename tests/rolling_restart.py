"""Replicas that are restarted in turns under a steady load: behind a proxy, or chosen by the clients themselves."""

import asyncio
import math
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

import onnx_models
from proxies import Address, Proxy, kept_address
from server_process import command, eventually
from steady_traffic import MODEL, Caller, GrpcCaller, Outcome, RestCaller, send_steadily

LAG_S = 2.0
"""After so long the naive clients learn that a replica has been asked to stop."""
LONGEST_STOP_S = 35
LONGEST_START_S = 60
# Of what was due; a machine that sends less says nothing.
_LEAST_SENT = 0.7


@dataclass(frozen=True)
class Plan:
    """``seconds`` is the least that the load lasts: to the last of ``restarts``, in any case."""

    seconds: float
    restarts: int
    drain_delay_s: float
    rate: float = 200


@dataclass
class Restart:
    """One of them, measured."""

    exit_code: int
    unready_ms: float
    """From the signal to the first answer that said not to be ready, or to the closed port."""
    stop_s: float


@dataclass
class Report:
    """What came of a plan; the outcomes by protocol."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    restarts: list[Restart] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(outcome.failed for outcome in self.outcomes.values())

    @property
    def wrong(self) -> int:
        return sum(outcome.wrong for outcome in self.outcomes.values())

    @property
    def sent_enough(self) -> bool:
        """Whether the load was what it was to be, nearly."""
        return all(outcome.sent >= _LEAST_SENT * outcome.due for outcome in self.outcomes.values())

    def __str__(self) -> str:
        outcomes = self.outcomes.items()
        said = [f"{name}: {each.sent} sent of {each.due} due, {dict(each.failures)}" for name, each in outcomes]
        return "; ".join((*said, str(self.restarts)))


class Replica:
    """A server that is started again and again on the same ports."""

    def __init__(self, address: Address, repository: Path, log: Path, drain_delay_s: float) -> None:
        self.address = address
        self._log = log
        flags = (
            f"--http-port={self.address.rest}",
            f"--grpc-port={self.address.grpc}",
            "--allow-metrics=false",
            f"--drain-delay-secs={drain_delay_s}",
            # nginx asks for no readiness.
            "--listen-when-loaded",
            "--compiled-cache-directory=off",
        )
        self._command = command("serve", repository, *flags)
        self._process: subprocess.Popen[bytes]
        self.leaves_s = math.inf
        """When naive clients learn that it leaves, on the monotonic clock."""

    def start(self) -> None:
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)

    def until_ready(self) -> None:
        eventually(lambda: self._process.poll() is not None or self._status() == 200, LONGEST_START_S)
        assert self._process.poll() is None, f"the server ended:\n{self._log.read_text()[-2000:]}"
        self.leaves_s = math.inf

    def restart(self) -> Restart:
        start_s = time.monotonic()
        self.leaves_s = start_s + LAG_S
        self._process.terminate()
        eventually(lambda: self._status() != 200)
        unready_s = time.monotonic()
        code = self._process.wait(LONGEST_STOP_S)
        stopped_s = time.monotonic()
        # With so short a drain the clients would learn of its end after the next start.
        eventually(lambda: time.monotonic() >= start_s + LAG_S)
        self.start()
        self.until_ready()
        return Restart(code, 1000 * (unready_s - start_s), stopped_s - start_s)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(LONGEST_STOP_S)

    def answered(self) -> int:
        """How many inferences it has answered since it was started."""
        status, body = self._get(f"/v2/models/{MODEL}/stats")
        return int(body.partition('"success":{"count":')[2].partition(",")[0]) if status == 200 else 0

    def _status(self) -> int:
        """Of readiness; 0 where nobody answers."""
        return self._get("/v2/health/ready")[0]

    def _get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.address.rest, timeout=10)
        with suppress(OSError, HTTPException), closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        return 0, ""


def naive(plan: Plan, directory: Path) -> Report:
    """Clients that take turns between the replicas which they know of, over REST, and ask nobody else on a failure."""
    with _replicas(plan, directory) as replicas:
        turns = count()

        def choose() -> int:
            known = [each for each in replicas if time.monotonic() < each.leaves_s] or replicas
            return known[next(turns) % len(known)].address.rest

        return _under_load(plan, replicas, {"REST": lambda: RestCaller(choose)})


def behind(proxy: Proxy, plan: Plan, directory: Path) -> Report:
    """Clients of both protocols, half of the rate each, that know the proxy only."""
    with _replicas(plan, directory) as replicas, proxy.before([each.address for each in replicas], directory) as front:
        callers: dict[str, Callable[[], Caller]] = {
            "REST": lambda: RestCaller(lambda: front.rest),
            "gRPC": lambda: GrpcCaller(front.grpc),
        }
        return _under_load(plan, replicas, callers)


@contextmanager
def _replicas(plan: Plan, directory: Path) -> Iterator[Sequence[Replica]]:
    repository = directory / "repository"
    onnx_models.save_version(repository, MODEL, onnx_models.doubler())
    with ExitStack() as stack:
        addresses = [stack.enter_context(kept_address()) for _ in range(2)]
        replicas = [
            Replica(address, repository, directory / f"{number}.log", plan.drain_delay_s)
            for number, address in enumerate(addresses, 1)
        ]
        for replica in replicas:
            replica.start()
            stack.callback(replica.stop)
        for replica in replicas:
            replica.until_ready()
        yield replicas


def _under_load(plan: Plan, replicas: Sequence[Replica], callers: dict[str, Callable[[], Caller]]) -> Report:
    report, over = Report(), threading.Event()
    rate = plan.rate / len(callers)

    def sending(new: Callable[[], Caller]) -> Outcome:
        async def run() -> Outcome:
            return await send_steadily(new(), rate, over)

        return asyncio.run(run())

    with ThreadPoolExecutor(len(callers)) as threads:
        outcomes: dict[str, Future[Outcome]] = {name: threads.submit(sending, new) for name, new in callers.items()}
        try:
            end_s = time.monotonic() + plan.seconds
            for number in range(plan.restarts):
                replica = replicas[number % len(replicas)]
                # Whoever chooses has noticed that it is there, the one that was restarted before as well.
                eventually(lambda: all(each.answered() for each in replicas), LONGEST_START_S)
                report.restarts.append(replica.restart())
            over.wait(max(0.0, end_s - time.monotonic()))
        finally:
            over.set()
        report.outcomes = {name: outcome.result(LONGEST_START_S) for name, outcome in outcomes.items()}
    return report
