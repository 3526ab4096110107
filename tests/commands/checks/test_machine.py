import os
import subprocess
import sys
from pathlib import Path

import pytest

from ortolan.commands.checks import machine
from ortolan.commands.checks.finding import Level


@pytest.mark.parametrize(
    ("soft", "hard", "level"),
    [
        (-1, -1, Level.OK),
        (20_000, 20_000, Level.OK),
        (1024, 65_536, Level.WARNING),
        (64, 4096, Level.BROKEN),
    ],
)
def test_few_open_files_are_told_before_clients_meet_them(soft: int, hard: int, level: Level) -> None:
    assert machine.open_files(soft, hard).level is level


def test_a_limit_is_raised_no_higher_than_it_may_be() -> None:
    assert "ulimit -n 2048," in machine.open_files(256, 2048).remedy
    assert "ulimit -n 65536," in machine.open_files(256, -1).remedy


@pytest.mark.parametrize(("now_s", "level"), [(0.0, Level.BROKEN), (4e9, Level.OK)])
def test_a_clock_that_stands_still_is_told(now_s: float, level: Level) -> None:
    assert machine.clock(now_s).level is level


@pytest.mark.parametrize(("size", "level"), [(256 << 20, Level.WARNING), (1 << 30, Level.OK)])
def test_too_little_memory_is_told(size: int, level: Level) -> None:
    assert machine.memory(size, "so much").level is level


def test_everything_here_is_looked_at() -> None:
    subjects = [each.subject for each in machine.check()]
    assert subjects == ["cores", "memory", "open files", "clock", "temporary files"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rights")
def test_no_place_for_temporary_files_is_told(tmp_path: Path) -> None:
    # As in a container with a read-only root and no tmpfs: whatever directory is tried cannot be written to.
    program = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"
        "from ortolan.commands.checks import machine\n"
        "print(machine.temporary_files()[0].remedy)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "mount a tmpfs at /tmp, or set TMPDIR\n"
