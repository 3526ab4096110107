"""A container of Ortolan's image under podman: hardened as the documents say, on free ports of this machine."""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callers import Reply
from server_process import eventually
from workshop import NETWORK, Workshop

HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
)
MEMORY_BYTES = 512 << 20
NO_NETWORK = "--network=none"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
READY_WITHIN_S = 90
IRIS = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [6.7, 3.1, 4.4, 1.4]}]}
"""A request for model iris, whose first output is ["versicolor"]."""


class Container:
    """A container that was started; ``ports`` says where this machine has each of ``PORTS``."""

    def __init__(self, workshop: Workshop, name: str, ports: dict[str, int]) -> None:
        self._workshop = workshop
        self.name = name
        self.ports = ports
        self.grpc = f"127.0.0.1:{ports['grpc']}"

    def ask(self, method: str, path: str, body: object = None, door: str = "http") -> Reply:
        """One HTTP request; ``body`` is bytes, or what becomes JSON. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[door], timeout=60)
        try:
            connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def status_of(self, path: str) -> int:
        """The status code of a GET; 0 while nobody answers."""
        try:
            return self.ask("GET", path).status
        except (OSError, http.client.HTTPException):
            return 0

    def metrics(self) -> str:
        return self.ask("GET", "/metrics", door="metrics").body.decode()

    def is_ready(self) -> bool:
        state = self.inspected()["State"]
        assert state["Running"], f"it ended with {state['ExitCode']}: {self.logs()}"
        return self.status_of("/v2/health/ready") == 200

    def python(self, program: str) -> str:
        """What a program prints, run inside by the image's own Python as the image's own user."""
        return self._workshop.podman("exec", self.name, "python", "-c", program).stdout.strip()

    def is_healthy(self) -> bool:
        """Whether the image's health check passes now."""
        return self._workshop.podman("healthcheck", "run", self.name, check=False).returncode == 0

    def logs(self) -> str:
        done = self._workshop.podman("logs", self.name)
        return done.stdout + done.stderr

    def inspected(self) -> Any:
        return json.loads(self._workshop.podman("inspect", self.name).stdout)[0]

    @property
    def pid(self) -> int:
        """Its first process, as this machine numbers it."""
        return int(self.inspected()["State"]["Pid"])

    def memory(self) -> dict[str, int]:
        """What its cgroup has in memory, in bytes: of its processes, and of files that it has read."""
        lines = Path(f"/proc/{self.pid}/cgroup").read_text().splitlines()
        groups = dict(line.split(":", 2)[1:] for line in lines)
        if "memory" in groups:
            folder, of_processes, of_files = f"/sys/fs/cgroup/memory{groups['memory']}", "total_rss", "total_cache"
        else:
            folder, of_processes, of_files = f"/sys/fs/cgroup{groups['']}", "anon", "file"
        found = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
        return {"processes": int(found[of_processes]), "files": int(found[of_files])}


@contextmanager
def container(
    workshop: Workshop, image: str, models: Path, options: Sequence[str] = (), command: Sequence[str] = ()
) -> Iterator[Container]:
    """A hardened container that serves ``models``, from its start until it has been removed."""
    ports = free_ports()
    published = [f"--publish=127.0.0.1:{ports[name]}:{inside}" for name, inside in PORTS.items()]
    # Without a network there are no ports.
    wanted = [] if NO_NETWORK in options else [f"--network={NETWORK}", *published]
    name = f"ortolan-{ports['http']}"
    mount = f"--volume={models}:/models:ro"
    try:
        workshop.podman("run", "--detach", f"--name={name}", *HARDENED, mount, *wanted, *options, image, *command)
        yield Container(workshop, name, ports)
    finally:
        workshop.podman("rm", "--force", "--time=0", name, check=False)


def ready(server: Container) -> float:
    """Wait until it is ready; how long that took, in seconds."""
    began = time.monotonic()
    eventually(server.is_ready, within_s=READY_WITHIN_S)
    return time.monotonic() - began


def free_ports() -> dict[str, int]:
    """A free port of this machine for each of ``PORTS``."""
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
    ports = {name: int(listener.getsockname()[1]) for name, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()
    return ports
