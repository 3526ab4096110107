"""Each target for some seconds, from the same seed every time, so that what this finds anyone can find again.

``make fuzz`` goes on for longer, and elsewhere each time.
"""

import contextlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz.targets import TARGETS

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import DATATYPES

TESTS = Path(__file__).parents[1]
BOUNDS = ("-seed=1", "-runs=40000", "-max_total_time=6")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; it has wheels for Linux on x86-64")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_bytes_come_they_are_read_rightly_or_refused(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.run", name, tmp_path, *BOUNDS],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr


@pytest.mark.parametrize("name", TARGETS)
def test_what_there_is_to_start_from_passes_and_much_of_it_is_valid(name: str) -> None:
    target, valid = TARGETS[name], 0
    for seed in target.seeds():
        target.check(seed)
        with contextlib.suppress(InvalidArgument):
            target.read(seed)
            valid += 1
    assert valid >= len(DATATYPES)
