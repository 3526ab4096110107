"""Signals while the program still imports what it needs: a quiet end, by an exit code that tells which."""

import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest

TIMEOUT_S = 60

# Sends itself the signal in the middle of its own imports, where a user's key or a service manager may meet it.
PROGRAM = """
import os, signal, sys

class Meets:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))

sys.meta_path.insert(0, Meets())
from ortolan.cli import main
raise SystemExit(main(sys.argv[3:]))
"""


def _met(module: str, signal_name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, module, signal_name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save_version(path, "doubler", onnx_models.doubler())
    return path


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("pydantic", "serve"),
        ("numpy", "serve"),
        ("onnxruntime", "serve"),
        ("uvloop", "serve"),
        ("onnxruntime", "models"),
        ("httptools", "bench"),
    ],
)
def test_an_interrupt_while_importing_ends_it_without_a_word(module: str, command: str, repository: Path) -> None:
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0") if command == "serve" else ()
    ended = _met(module, "SIGINT", command, repository / "doubler", *ports)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize("module", ["numpy", "onnxruntime", "uvloop"])
def test_sigterm_while_importing_is_an_end_in_good_order(module: str, repository: Path) -> None:
    ended = _met(module, "SIGTERM", "serve", repository, "--http-port=0", "--grpc-port=0", "--metrics-port=0")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_an_interrupt_of_a_short_command_is_quiet_too() -> None:
    assert _met("socket", "SIGINT", "health", "127.0.0.1:1").returncode == 130


def test_sigterm_is_left_as_it_was_by_a_server_that_could_not_start() -> None:
    program = (
        "import signal; from ortolan.cli import main; code = main(['serve', '/nowhere']); "
        "raise SystemExit(7 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and code == 2 else code)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=TIMEOUT_S)
    assert ended.returncode == 7
