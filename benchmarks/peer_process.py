"""Another server as a process on loopback ports: started, waited for, put beside ours in the grid, and stopped."""

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
POLL_S = 0.02
LAST_CHARACTERS = 3000
GRID = Path(__file__).resolve().parent / "grid.py"


class UnavailableError(Exception):
    """Something is missing on this machine, or the server does not start; the message says what."""


@contextmanager
def peer_process(command: Sequence[str | Path], environment: Mapping[str, str], http_port: int) -> Iterator[None]:
    """The server of ``command``, ready. Raises UnavailableError with the end of its log when it does not start."""
    with tempfile.TemporaryFile("w+") as log:
        # In a session of its own: Ctrl-C in the terminal is for us, and we stop it.
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            if not _ready(process, http_port):
                log.seek(0)
                raise UnavailableError("it does not start; the end of its log:\n" + log.read()[-LAST_CHARACTERS:])
            yield
        finally:
            _stop(process)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="where the models are written")
    parser.add_argument("--grid", nargs=argparse.REMAINDER, help="run grid.py, with what follows as its arguments")


def run(name: str, serve: Callable[[ExitStack], Mapping[str, str]], grid: Sequence[str] | None) -> int:
    """Start what ``serve`` enters, and run the grid with it, or serve until Ctrl-C; the exit status.

    ``serve`` returns the addresses, "HTTP,GRPC", of each peer by its name.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            peers = [part for peer, addresses in serve(stack).items() for part in ("--peer", f"{peer}={addresses}")]
            if grid is not None:
                return subprocess.run([sys.executable, GRID, *peers, *grid], check=False).returncode
            print(" ".join(peers), flush=True)
            threading.Event().wait()
    except UnavailableError as error:
        print(f"{name}: {error}", file=sys.stderr)
    return 2


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server says, in time, that all models are loaded."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S)) as connection:
            try:
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return True
            except (OSError, http.client.HTTPException):
                pass
        time.sleep(POLL_S)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
