"""Triton's metrics of the machine: out of files like those in /proc, and of GPUs as far as they are there."""

import asyncio
import re
from pathlib import Path

import pytest

from ortolan.frontends.metrics.exposition import lines_of
from ortolan.frontends.metrics.gpus import Gpus, seen
from ortolan.frontends.metrics.machine import Machine

MEMORY = "MemTotal:       1000 kB\nMemFree:   10 kB\nMemAvailable:    400 kB\n"


def told(machine: Machine) -> dict[str, float]:
    text = "".join(lines_of(machine.families()))
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}


def proc(directory: Path, *ticks: int, memory: str = MEMORY) -> Path:
    (directory / "stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 1 1 1\n")
    (directory / "meminfo").write_text(memory)
    return directory


def test_utilization_is_that_since_the_last_look(tmp_path: Path) -> None:
    machine = Machine(proc(tmp_path, 100, 0, 100, 700, 100, 0, 0, 0, 0, 0))
    machine.look()
    assert "nv_cpu_utilization" not in told(machine)
    # A quarter of 400 ticks was used; waiting for a disk is not.
    proc(tmp_path, 150, 0, 150, 900, 200, 0, 0, 0, 0, 0)
    machine.look()
    assert told(machine)["nv_cpu_utilization"] == pytest.approx(0.25)


def test_what_guests_take_counts_once(tmp_path: Path) -> None:
    machine = Machine(proc(tmp_path, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    machine.look()
    proc(tmp_path, 50, 0, 0, 50, 0, 0, 0, 0, 50, 0)
    machine.look()
    assert told(machine)["nv_cpu_utilization"] == pytest.approx(0.5)


def test_memory_is_used_that_nobody_could_have(tmp_path: Path) -> None:
    found = told(Machine(proc(tmp_path, 1, 1, 1, 1, 1)))
    assert found == {"nv_cpu_memory_total_bytes": 1_024_000, "nv_cpu_memory_used_bytes": 614_400}


@pytest.mark.parametrize(("stat", "memory"), [("", ""), ("cpu x y z", "MemTotal: x"), ("cpu 1", "MemTotal: 1 kB")])
def test_what_the_system_does_not_tell_is_left_out(tmp_path: Path, stat: str, memory: str) -> None:
    (tmp_path / "stat").write_text(stat)
    (tmp_path / "meminfo").write_text(memory)
    for machine in (Machine(tmp_path), Machine(tmp_path / "nowhere")):
        machine.look()
        machine.look()
        assert told(machine) == {}


GPUS = [("GPU-aa1", 0), ("GPU-ab2", 1), ("GPU-cc3", 2)]


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        # by the beginning of an identity, if only one has it
        ("GPU-cc", [2]),
        ("GPU-a", []),
        # nothing counts after what is none
        ("1,7,0", [1]),
    ],
)
def test_those_gpus_are_told_of_that_are_visible(visible: str | None, numbers: list[int]) -> None:
    assert [number for _, number in seen(GPUS, visible)] == numbers


async def test_without_a_gpu_there_is_nothing_to_tell() -> None:
    gpus = Gpus(visible="-1")
    await asyncio.to_thread(gpus.look)
    assert (list(lines_of(gpus.families())), gpus.uuids) == ([], {})
