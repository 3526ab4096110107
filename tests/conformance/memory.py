"""How much memory a server takes while a test does something to it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import ServerProcess


def peak_growth_bytes(server: ServerProcess, action: Callable[[], object]) -> int:
    """How far the server's resident memory rose above what it had, at the worst moment of ``action``."""
    process = Path("/proc") / str(server.process.pid)
    if not (process / "clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process's memory")
    # Lets the peak begin anew.
    (process / "clear_refs").write_text("5")
    before = _status_bytes(process, "VmRSS")
    action()
    return _status_bytes(process, "VmHWM") - before


def _status_bytes(process: Path, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", (process / "status").read_text())
    assert found
    return int(found[1]) * 1024
