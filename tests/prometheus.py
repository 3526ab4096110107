"""Prometheus and promtool: to fetch them (``python tests/prometheus.py``), to find them, to run and to ask them.

Both are programs of the distribution's package, which is unpacked and not installed; they need nothing but libc.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreign_packages import FAILURES, unpack_packages
from server_process import eventually

HOME = Path(sys.prefix) / "prometheus"
"""Where they are put: in the virtual environment, so that they go with that."""

_PROGRAMS = ("prometheus", "promtool")
_LONGEST_S = 60
_STOP_S = 20


@dataclass(frozen=True)
class Prometheus:
    """The two programs, which start."""

    server: Path
    promtool: Path

    def check(self, *arguments: str | Path, page: str = "") -> subprocess.CompletedProcess[str]:
        """``promtool`` with ``arguments`` and ``page`` as its input, run to its end."""
        command = [self.promtool, *map(str, arguments)]
        return subprocess.run(command, input=page, capture_output=True, text=True, timeout=_LONGEST_S)

    @contextmanager
    def scraping(self, configuration: Path) -> Iterator["ScrapingPrometheus"]:
        """A server with this configuration, whose data and log lie beside it."""
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        beside, log = configuration.parent, configuration.parent / "prometheus.log"
        command = [self.server, f"--config.file={configuration}", f"--storage.tsdb.path={beside / 'data'}"]
        with open(log, "w") as output:
            process = subprocess.Popen(
                [*command, f"--web.listen-address={address}"], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            started = ScrapingPrometheus(address)
            eventually(lambda: process.poll() is not None or started.ready())
            assert process.poll() is None, f"prometheus ended:\n{log.read_text()[-2000:]}"
            yield started
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S)


@dataclass(frozen=True)
class ScrapingPrometheus:
    """One that runs, at ``address``."""

    address: str

    def ready(self) -> bool:
        with contextlib.suppress(OSError), self._opened("/-/ready"):
            return True
        return False

    def ask(self, path: str, **query: str | Sequence[str]) -> Any:
        """What the API has under this path, say ``targets``. A refusal raises HTTPError."""
        with self._opened(f"/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}") as response:
            return json.load(response)["data"]

    def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What the expression comes to now: the labels and the value of each series."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def _opened(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://{self.address}{path}", timeout=_LONGEST_S)


def found() -> Prometheus | str:
    """The fetched programs, else those on the PATH; or why there are none."""
    places = {name: HOME / name if (HOME / name).exists() else shutil.which(name) for name in _PROGRAMS}
    for name, place in places.items():
        if place is None:
            return f"{name} is not there: `make prometheus` fetches it"
        try:
            subprocess.run([place, "--version"], capture_output=True, timeout=_LONGEST_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{name} does not start: {type(error).__name__}"
    return Prometheus(*(Path(str(places[name])) for name in _PROGRAMS))


def fetch() -> str:
    """Put into ``HOME`` what is not there yet, nor installed; what was missing, or ""."""
    if isinstance(found(), Prometheus):
        return ""
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        try:
            unpack_packages(["prometheus"], Path(scratch))
            for name in _PROGRAMS:
                (Path(scratch) / "usr" / "bin" / name).replace(HOME / name)
        except FAILURES as error:
            return f"it could not be fetched: {type(error).__name__}"
    return ""


if __name__ == "__main__":
    if problem := fetch():
        sys.stderr.write(f"prometheus: {problem}; the tests that use it will be skipped\n")
