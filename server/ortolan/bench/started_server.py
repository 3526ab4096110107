"""This server as a process of its own on free loopback ports, for as long as it is measured."""

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from ortolan.bench.load import Address
from ortolan.errors import StartupError

_ADDRESS = re.compile(r"\s+(HTTP|gRPC)\s+(\S+):(\d+)\s")
_FLAGS = ("--http-port=0", "--grpc-port=0", "--allow-metrics=false", "--drain-delay-secs=0", "--http-address=127.0.0.1")
_STOP_S = 30.0
_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class StartedServer:
    http: Address
    grpc: Address
    process_id: int
    ready_s: float
    """From the start of the process until it said that it serves."""


@contextmanager
def started_server(paths: Sequence[str], flags: Sequence[str] = ()) -> Iterator[StartedServer]:
    """``ortolan serve`` with ``paths``, ready. Raises StartupError with the end of its log when it does not start."""
    command = [sys.executable, "-m", "ortolan", "serve", *paths, *_FLAGS, "--grpc-address=127.0.0.1", *flags]
    with tempfile.TemporaryFile("w+") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - our own
        try:
            addresses = _addresses(process, log)
            # It prints more than that, and would wait for ever for a reader once the pipe is full.
            threading.Thread(target=_read_on, args=(process,), daemon=True).start()
            yield StartedServer(addresses["HTTP"], addresses["gRPC"], process.pid, time.perf_counter() - begin)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            finally:
                process.kill()


def _read_on(process: subprocess.Popen[str]) -> None:
    with process:
        for _ in process.stdout or ():
            pass


def _addresses(process: subprocess.Popen[str], log: IO[str]) -> dict[str, Address]:
    """From what the server prints once it serves; it prints that or ends."""
    addresses: dict[str, Address] = {}
    for line in process.stdout or ():
        if found := _ADDRESS.match(line):
            addresses[found[1]] = Address(found[2], int(found[3]))
        if len(addresses) == 2:
            return addresses
    process.wait(_STOP_S)
    if process.stdout:
        process.stdout.close()
    log.seek(0)
    said = "\n".join(log.read().strip().splitlines()[-_LAST_LINES:])
    raise StartupError(f"the server does not start; the end of its log:\n{said}")
