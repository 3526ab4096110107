"""A server under a service manager: a real socket of its protocol, and the unit that is shipped."""

import configparser
import http.client
import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from server_process import finished, running

from ortolan.settings import Settings

TIMEOUT_S = 60.0
UNIT = Path(__file__).resolve().parents[2] / "examples" / "systemd" / "ortolan.service"


class Manager:
    """Reads all that is told, as it comes."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._told: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self._socket.getsockname(), "WATCHDOG_USEC": "200000"}

    def until(self, line: str) -> list[str]:
        """What was told since the last call, as soon as ``line`` is."""
        told: list[str] = []
        while not told or line not in told[-1].split("\n"):
            told.append(self._told.get(timeout=TIMEOUT_S))
        return told

    def rest(self) -> list[str]:
        """What else was told, now that nobody tells any more."""
        self.close()
        return [*self._told.queue]

    def close(self) -> None:
        if self._reading.is_alive():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.sendto(b"", self._socket.getsockname())
            self._reading.join(TIMEOUT_S)
            self._socket.close()

    def _read(self) -> None:
        while told := self._socket.recv(4096):
            self._told.put(told.decode())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_ready_is_told_when_it_is_so_and_stopping_at_sigterm(manager: Manager, tmp_path: Path, processes: int) -> None:
    onnx_models.save_version(tmp_path / "repository", "doubler", onnx_models.doubler())
    flags = () if processes == 1 else (f"--processes={processes}",)
    with running(tmp_path / "repository", *flags, environment=manager.environment) as server:
        assert manager.until("READY=1")[0] == "STATUS=loading models"
        connection = http.client.HTTPConnection(server.http, timeout=TIMEOUT_S)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
        for _ in range(3):
            manager.until("WATCHDOG=1")
        server.process.terminate()
        manager.until("STOPPING=1")
        assert server.process.wait(TIMEOUT_S) == 0
        assert not [told for told in manager.rest() if "READY" in told]


def test_a_server_that_cannot_serve_never_says_that_it_is_ready(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "repository" / "broken" / "1").mkdir(parents=True)
    (tmp_path / "repository" / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    ended = finished("serve", tmp_path / "repository", *ports, environment=manager.environment)
    assert ended.returncode == 1
    told = manager.rest()
    assert told[0] == "STATUS=loading models"
    assert not [each for each in told if "READY" in each]


# -- the unit ----------------------------------------------------------------------------------------------------------


class _Several(dict[str, str]):
    """A section in which a name may stand several times; the values are joined by spaces."""

    def __setitem__(self, name: str, value: str) -> None:
        before = self.get(name)
        if isinstance(value, list) and isinstance(before, list):
            value = before + value
        super().__setitem__(name, value)


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, dict_type=_Several, empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def test_the_unit_waits_for_as_long_as_the_server_may_take_to_stop(unit: configparser.ConfigParser) -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    longest_s = defaults["drain_delay_secs"] + defaults["exit_timeout_secs"]
    assert int(unit["Service"]["TimeoutStopSec"]) >= longest_s + 10


def test_the_variables_of_the_unit_are_settings(unit: configparser.ConfigParser) -> None:
    names = [line.partition("=")[0] for line in unit["Service"]["Environment"].split("\n")]
    known = {f"ORTOLAN_{name.upper()}" for name in Settings.model_fields}
    assert "ORTOLAN_MODEL_REPOSITORY" in names
    assert {name for name in names if name.startswith("ORTOLAN_")} <= known


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    path = tmp_path / "ortolan.service"
    path.write_text(UNIT.read_text().replace("/opt/ortolan/bin/ortolan", sys.executable))
    return path


def _analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there: it comes with systemd")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)


def test_systemd_finds_nothing_wrong_with_the_unit(installed: Path) -> None:
    verified = _analyzed("verify", "--recursive-errors=no", "--man=no", installed)
    if "Failed to" in verified.stderr and installed.name not in verified.stderr:
        pytest.skip(f"systemd-analyze does not work here: {verified.stderr.strip()[-200:]}")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_finds_the_unit_little_exposed(installed: Path) -> None:
    judged = _analyzed("security", "--offline=true", "--threshold=20", installed)
    if "unrecognized option" in judged.stderr:
        pytest.skip("systemd-analyze is too old to judge a file: it needs systemd 250")
    assert judged.returncode == 0, judged.stdout[-2000:]


def test_the_documentation_tells_of_the_unit_as_it_is(unit: configparser.ConfigParser) -> None:
    text = (UNIT.parents[2] / "docs" / "systemd.md").read_text()
    for name in ("Type", "WatchdogSec", "TimeoutStopSec", "KillMode", "Restart"):
        assert f"`{name}={unit['Service'][name]}`" in text
