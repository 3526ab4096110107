"""The installed server as a process on free loopback ports, for tests that go through real sockets."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

START_TIMEOUT_S = 60
# Nothing of one test is left to the next, or to the user.
DEFAULTS = (
    "--http-port=0",
    "--grpc-port=0",
    "--metrics-port=0",
    "--drain-delay-secs=0",
    "--compiled-cache-directory=off",
)
STOP_TIMEOUT_S = 30
_ADDRESS = re.compile(r"\s+(HTTP|gRPC|metrics)\s+\S+:(\d+)(?:/metrics)?\s")


@dataclass
class ServerProcess:
    """A running server; ``summary`` is what it printed when it had started."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    metrics_port: int
    summary: str

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics(self) -> str:
        return f"127.0.0.1:{self.metrics_port}"


def command(*arguments: str | Path) -> list[str]:
    """The command line of ``ortolan`` with ``arguments``, in the interpreter that runs the tests."""
    return [sys.executable, "-m", "ortolan", *map(str, arguments)]


def finished(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """``ortolan`` with ``arguments``, run to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env={**os.environ, **(environment or {})},
    )


def eventually(condition: Callable[[], _T], within_s: float = 20) -> _T:
    """What ``condition`` returns as soon as that is true; AssertionError when it does not become so in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {within_s} s; the last answer was {found!r}"
        time.sleep(0.01)
    return found


@contextmanager
def running(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    under: Sequence[str] = (),
    defaults: Sequence[str] = DEFAULTS,
) -> Iterator[ServerProcess]:
    """``ortolan serve`` with ``arguments`` on free ports, from its summary to its end.

    Its log goes to ``log``; ``under`` is the start of a command line that runs the rest, such as strace's. Flags beat
    the environment: what that is to say, ``defaults`` leave out.
    """
    with open(log or os.devnull, "w") as errors:
        process = subprocess.Popen(
            [*under, *command("serve", *defaults, *arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield _started(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            finally:
                process.kill()
                if process.stdout:
                    process.stdout.close()


def _started(process: subprocess.Popen[str]) -> ServerProcess:
    lines: list[str] = []
    ports: dict[str, int] = {}
    for line in process.stdout or ():
        lines.append(line)
        if found := _ADDRESS.match(line):
            ports[found[1]] = int(found[2])
        if "metrics" in ports:
            return ServerProcess(process, ports.get("HTTP", 0), ports.get("gRPC", 0), ports["metrics"], "".join(lines))
    raise AssertionError(f"the server ended with {process.wait(5)} before it had started:\n{''.join(lines)}")
