"""Each target for some seconds, from the same seed every time, so that what this finds anyone can find again.

``make fuzz`` goes on for longer, and elsewhere each time.
"""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from fuzz import ports, routes
from fuzz.targets import TARGETS

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import DATATYPES

TESTS = Path(__file__).parents[1]
BOUNDS = ("-seed=1", "-runs=40000", "-max_total_time=2")
REQUESTS = 500
ALL = {**TARGETS, **ports.TARGETS}
ALTERATIONS = {"elements": 5000, "header-blocks": 500, "http1": 1000, "http1-doors": 150}
"""How many inputs of these are looked at without atheris, which takes longer to begin than they all do."""


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is refused is logged, thousands of times."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; it has wheels for Linux on x86-64")
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - ALTERATIONS.keys()))
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


@pytest.mark.parametrize("name", ALTERATIONS)
def test_whatever_bytes_are_altered_they_are_read_rightly_or_refused(name: str, quiet: None) -> None:
    target, random = ALL[name], Random(1)
    inputs = [*target.seeds()]
    for _ in range(ALTERATIONS[name]):
        data = target.altered(random.choice(inputs), random)
        if data is not None:
            target.check(data)
            inputs.append(data)


@pytest.mark.parametrize("name", ALL)
def test_what_there_is_to_start_from_passes_and_much_of_it_is_valid(name: str, quiet: None) -> None:
    target, valid = ALL[name], 0
    for seed in target.seeds():
        target.check(seed)
        with contextlib.suppress(InvalidArgument):
            target.read(seed)
            valid += 1
    assert valid >= len(DATATYPES)


def test_p21_no_request_to_any_route_or_method_is_answered_with_a_fault(tmp_path: Path) -> None:
    with routes.served(tmp_path) as served:
        left = iter(range(REQUESTS))
        assert routes.faults(served, 1, lambda: next(left, None) is not None) == []
