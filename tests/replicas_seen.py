"""The replicas of a server with several processes, as the system shows them to a test."""

import http.client
import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callers import rest_body, row
from server_process import ServerProcess, eventually

_MODULE = "ortolan.replicas.replica"
LONGEST_S = 30.0


def replicas(server: ServerProcess) -> list[int]:
    """The process ids of the replicas, in the order in which they were started."""
    supervisor = server.process.pid
    found = []
    for task in Path(f"/proc/{supervisor}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                if _MODULE in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                    found.append(int(child))
            except FileNotFoundError:
                continue
    return sorted(found)


def ports_of(pid: int) -> set[int]:
    """The ports of the other ends of the connections over IPv4 that the process has."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(fields[2].partition(":")[2], 16) for fields in lines if fields[9] in inodes}


@dataclass
class Kept:
    """A connection that is kept, and the replica at its other end."""

    connection: http.client.HTTPConnection
    replica: int

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        self.connection.request(method, path, body)
        response = self.connection.getresponse()
        return response.status, response.read()


@contextmanager
def one_to_each(server: ServerProcess, port: int = 0) -> Iterator[Mapping[int, Kept]]:
    """A connection to each of the replicas, by process id; ``port`` is that of HTTP if not given."""
    opened: list[http.client.HTTPConnection] = []
    found: dict[int, Kept] = {}

    def another() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port or server.http_port, timeout=LONGEST_S)
        opened.append(connection)
        connection.connect()
        own_port = connection.sock.getsockname()[1]
        owner = eventually(lambda: [pid for pid in replicas(server) if own_port in ports_of(pid)])[0]
        found.setdefault(owner, Kept(connection, owner))
        return len(found) == len(replicas(server))

    try:
        eventually(another)
        yield found
    finally:
        for connection in opened:
            connection.close()


def answers(server: ServerProcess, model: str = "m") -> list[int | float]:
    """The first number that each replica answers to zeros, or the status of its refusal."""
    with one_to_each(server) as kept:
        replies = [each.ask("POST", f"/v2/models/{model}/infer", rest_body(row(0))) for each in kept.values()]
    return [json.loads(body)["outputs"][0]["data"][0] if status == 200 else status for status, body in replies]


def page(server: ServerProcess) -> str:
    """The metrics, of whichever replica."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=LONGEST_S) as response:
        return str(response.read().decode())


def has_replicas(server: ServerProcess, count: int) -> bool:
    """Whether so many serve."""
    return f"ortolan_replicas {count}\n" in page(server)
