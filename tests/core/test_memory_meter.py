"""What loads add to the memory of the process: with a memory that the test moves, and with the real one."""

import mmap
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from heavy_models import heavy
from onnx import save

from ortolan.core.memory_meter import MemoryMeter, MemoryUse, ProcessMemory, available_bytes
from ortolan.execution.devices import Placement, Provider
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import InstanceKind

MIB = 1 << 20
needs_glibc = pytest.mark.skipif(sys.platform != "linux", reason="glibc tells what its heap holds")


class Held(ProcessMemory):
    """A memory that holds what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes: int | None = 1000

    def held_bytes(self) -> int | None:
        return self.size_bytes

    def grow(self, by: int) -> None:
        assert self.size_bytes is not None
        self.size_bytes += by


def test_a_load_by_itself_gets_what_was_added() -> None:
    memory, use = Held(), MemoryUse(10)
    assert (use.size_bytes, use.is_measured) == (10, False)
    MemoryMeter(memory).measured(use, memory.grow, 70)
    assert (use.size_bytes, use.is_measured) == (70, True)


def test_loads_beside_each_other_share_what_they_added_by_what_was_expected() -> None:
    memory = Held()
    meter = MemoryMeter(memory)
    small, large = MemoryUse(10), MemoryUse(30)

    def outer() -> None:
        memory.grow(500)  # needed in between only
        meter.measured(small, memory.grow, 20)
        assert not small.is_measured, "the other load is not over"
        memory.grow(-440)

    meter.measured(large, outer)
    assert (small.size_bytes, large.size_bytes) == (20, 60)


def test_the_event_loop_does_not_wait_for_a_look_at_the_memory() -> None:
    looking, freed = threading.Event(), threading.Event()

    class Slow(Held):
        def held_bytes(self) -> int | None:
            looking.set()
            return super().held_bytes() if freed.wait(10) else None

    use = MemoryUse(10)
    meter = MemoryMeter(Slow())
    load = threading.Thread(target=lambda: meter.measured(use, int))
    load.start()
    assert looking.wait(10)
    meter.freed(1)
    freed.set()
    load.join(10)
    assert use.is_measured


def test_a_load_that_fails_has_no_part() -> None:
    memory = Held()
    meter = MemoryMeter(memory)
    failing, good = MemoryUse(10), MemoryUse(10)

    def fail() -> None:
        raise ValueError("no model")

    def outer() -> None:
        with pytest.raises(ValueError, match="no model"):
            meter.measured(failing, fail)
        memory.grow(50)

    meter.measured(good, outer)
    assert (good.size_bytes, failing.is_measured) == (50, False)


def test_what_others_let_go_of_meanwhile_is_not_taken_off() -> None:
    memory = Held()
    meter = MemoryMeter(memory)
    use = MemoryUse(10)

    def load_while_another_leaves() -> None:
        memory.grow(50)
        memory.grow(-30)
        meter.freed(30)

    meter.measured(use, load_while_another_leaves)
    assert use.size_bytes == 50
    meter.freed(30)
    meter.measured(use, memory.grow, 7)
    assert use.size_bytes == 7


def test_where_the_system_cannot_tell_what_was_expected_stands() -> None:
    memory, use = Held(), MemoryUse(10)
    memory.size_bytes = None
    MemoryMeter(memory).measured(use, list)
    assert (use.size_bytes, use.is_measured) == (10, False)


@needs_glibc
@pytest.mark.parametrize("mebibytes", [1, 16, 64])
def test_a_session_is_measured_as_large_as_its_weights_and_little_more(tmp_path: Path, mebibytes: int) -> None:
    save(heavy(1, mebibytes), tmp_path / "m.onnx")
    meter, sessions, sizes = MemoryMeter(), [], []
    for _ in range(2):  # the second gets memory that lies there free, if it can
        use = MemoryUse(1)
        sessions.append(meter.measured(use, run, tmp_path / "m.onnx"))
        sizes.append(use.size_bytes / MIB)
    assert all(mebibytes <= size < mebibytes + 2.5 for size in sizes), sizes
    meter.measured(use, sessions.pop)


def run(file: Path) -> Session:
    placement = Placement("m_0", InstanceKind.CPU, 0, (Provider("CPUExecutionProvider"),))
    session = Session(file, "m", SessionSettings(), placement, file.parent)
    session.run({"x": np.zeros((1, 4), np.float32)}, ["y"])
    return session


@needs_glibc
def test_files_that_are_mapped_count_once(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(8 * MIB))
    memory = ProcessMemory()
    before = memory.held_bytes()
    with file.open("rb") as opened:
        first = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
        second = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
    after = memory.held_bytes()
    assert before is not None
    assert after is not None
    assert 8 * MIB <= after - before < 9 * MIB
    first.close()
    second.close()


@needs_glibc
def test_memory_is_given_back_while_others_use_theirs() -> None:
    memory = ProcessMemory()
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            assert np.ones(1 << 16).sum() == 1 << 16

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        memory.give_back()
    stop.set()
    for thread in threads:
        thread.join(10)


def test_a_machine_has_memory() -> None:
    assert 1 << 28 < available_bytes() < 1 << 46
