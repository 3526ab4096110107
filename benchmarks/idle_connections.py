"""Connections that say nothing, ten thousand of them: what they cost in memory, and whether anyone waits for them.

Run by `make idle-connections` (`--count`, as far as the hard limit of descriptors allows it). Exit code 1 when they
cost more than 100 MiB for 10,000, health's p99 is above 50 ms, or descriptors are left.
"""

import argparse
import http.client
import resource
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import onnx_models
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually, running

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
ASKED = 500
MOST_MIB_OF_10_000 = 100.0
MOST_P99_MS = 50.0
# What both processes have open beside the connections.
OTHERS = 200


def most_descriptors() -> int:
    """How many descriptors this process may have, and those that it starts, from now on."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def health_ms(server: ServerProcess) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    found: list[float] = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        found.append((time.perf_counter() - begun) * 1000)
    connection.close()
    return sorted(found)


def measured(server: ServerProcess, door: str, count: int) -> bool:
    """Print what ``count`` idle connections come to; whether that is little enough."""
    pid = server.process.pid
    alone = health_ms(server)
    before, open_before = resident_mib(pid), descriptors(pid)
    with ExitStack() as connections:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", getattr(server, f"{door}_port")), 30)
            connections.enter_context(connection)
            if door == "grpc":
                connection.sendall(PREFACE)
        eventually(lambda: descriptors(pid) >= count)
        beside, grown_mib = health_ms(server), resident_mib(pid) - before
    eventually(lambda: descriptors(pid) <= open_before)
    p99, p99_alone = beside[int(0.99 * ASKED)], alone[int(0.99 * ASKED)]
    cost = f"{grown_mib:.1f} MiB, {grown_mib * 1024 / count:.1f} KiB each"
    print(f"{door}: {count} idle connections: {cost}; health p99 {p99_alone:.2f} ms without, {p99:.2f} with them")
    return grown_mib <= MOST_MIB_OF_10_000 * max(1.0, count / 10_000) and p99 < MOST_P99_MS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    count = min(parser.parse_args().count, most_descriptors() - OTHERS)
    with tempfile.TemporaryDirectory() as folder:
        onnx_models.save_version(Path(folder), "m", onnx_models.doubler())
        fine = True
        # A server for each: a second load would find memory that the first has left.
        for door in ("http", "grpc"):
            with running(folder, "--calibration-cache=none") as server:
                fine &= measured(server, door, count)
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
