"""Regions of POSIX shared memory: which may be opened, and what clients can do to them while they are open."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shared_objects import SharedObject, needs_linux, shared_object, times_open

from ortolan.core.system_region import SystemRegion
from ortolan.errors import InvalidArgument
from ortolan.inference.shared_memory import SharedMemorySlice

pytestmark = needs_linux

LARGEST = 2**64 - 1
MIB = 1 << 20


@pytest.fixture
def shared() -> Iterator[SharedObject]:
    with shared_object(64, bytes(range(64))) as found:
        yield found


def region_of(shared: SharedObject, offset: int = 0, size: int = 64) -> SystemRegion:
    return SystemRegion("r", shared.key, offset, size)


async def test_a_region_reads_and_writes_its_part_of_the_object(shared: SharedObject) -> None:
    region = region_of(shared, 16, 32)
    assert bytes(await region.read(4, 3)) == bytes([20, 21, 22])
    await region.write(30, b"ab")
    assert shared.read(4, 45) == bytes([45]) + b"ab" + bytes([48])
    assert bytes(await region.read(0, 0)) == b""
    await region.write(0, b"")
    region.let_go()


async def test_what_was_read_is_not_changed_by_the_client_any_more(shared: SharedObject) -> None:
    region = region_of(shared)
    before = await region.read(0, 4)
    shared.write(b"XXXX")
    assert bytes(before) == bytes([0, 1, 2, 3])
    region.let_go()


async def test_large_tensors_are_read_and_written_whole() -> None:
    content = os.urandom(3 * MIB)
    with shared_object(3 * MIB, content) as shared:
        region = region_of(shared, 1, 3 * MIB - 1)
        assert bytes(await region.read(7, 2 * MIB)) == content[8 : 8 + 2 * MIB]
        await region.write(3, content[: 2 * MIB])
        assert shared.read(2 * MIB, 4) == content[: 2 * MIB]
        region.let_go()


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_keys_may_begin_with_slashes_or_not(shared: SharedObject, slashes: str) -> None:
    region = SystemRegion("r", slashes + shared.path.name, 0, 64)
    assert region.key == slashes + shared.path.name
    region.let_go()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "must be one name"),
        ("/", "must be one name"),
        ("///", "must be one name"),
        ("/.", "must be one name"),
        ("..", "must be one name"),
        ("/../etc/passwd", "must be one name"),
        ("/a/b", "must be one name"),
        ("a/", "must be one name"),
        ("a\0b", "must be one name"),
        ("a" * 256, "must not be longer than 255 bytes"),
        ("/" + "é" * 128, "must not be longer than 255 bytes"),
        ("/triton_python_backend_shm_region_1", "are reserved"),
        ("triton_python_backend_shm_region_", "are reserved"),
        ("//triton_python_backend_shm_region_x", "are reserved"),
        ("/sem.lock", "name semaphores"),
        ("/ortolan_there_is_no_such_object", "Unable to open shared memory region: 'r'"),
    ],
)
def test_keys_that_no_client_may_use_are_refused(key: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        SystemRegion("r", key, 0, 4)
    assert message in raised.value.message
    # An error that tells a key tells it to whoever provokes it.
    assert "no_such_object" not in raised.value.message


def test_what_is_no_shared_memory_object_is_not_opened(shared: SharedObject, tmp_path: Path) -> None:
    link, pipe, directory = (shared.path.with_name(shared.path.name + end) for end in ("_link", "_pipe", "_directory"))
    (tmp_path / "secret").write_bytes(bytes(64))
    link.symlink_to(tmp_path / "secret")
    os.mkfifo(pipe)
    directory.mkdir()
    try:
        for wrong in (link, pipe, directory):
            with pytest.raises(InvalidArgument, match=r"Unable to open shared memory region: 'r'\."):
                SystemRegion("r", wrong.name, 0, 4)
    finally:
        link.unlink()
        pipe.unlink()
        directory.rmdir()


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (0, 65),
        (64, 1),
        (65, 1),
        (63, 2),
        (1, 64),
        (0, 0),
        (0, LARGEST),
        (LARGEST, 1),
        (LARGEST, LARGEST),
        (2**64 - 32, 64),
        (32, 2**64 - 32),
        (2**63, 2**63),
    ],
)
def test_bytes_that_the_object_does_not_have_are_refused(shared: SharedObject, offset: int, size: int) -> None:
    with pytest.raises(InvalidArgument) as raised:
        region_of(shared, offset, size)
    assert raised.value.message.startswith("failed to register shared memory region 'r': invalid args")
    assert shared.path.name not in raised.value.message
    assert times_open(shared) == 0


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [
        (0, 33, "Invalid offset + byte size for shared memory region: 'r'"),
        (31, 2, "Invalid offset + byte size for shared memory region: 'r'"),
        (0, LARGEST, "Invalid offset + byte size for shared memory region: 'r'"),
        (16, 2**64 - 16, "Invalid offset + byte size for shared memory region: 'r'"),
        (31, 2**64 - 32, "Invalid offset + byte size for shared memory region: 'r'"),
        (32, 0, "Invalid offset for shared memory region: 'r'"),
        (32, 1, "Invalid offset for shared memory region: 'r'"),
        (2**64 - 32, 64, "Invalid offset for shared memory region: 'r'"),
        (LARGEST, LARGEST, "Invalid offset for shared memory region: 'r'"),
    ],
)
def test_places_that_are_not_wholly_inside_are_refused(
    shared: SharedObject, offset: int, size: int, message: str
) -> None:
    region = region_of(shared, 16, 32)
    with pytest.raises(InvalidArgument) as raised:
        region.check(SharedMemorySlice("r", offset, size))
    assert raised.value.message.startswith(message)
    region.let_go()


@pytest.mark.parametrize(("offset", "size"), [(0, 32), (31, 1), (31, 0), (0, 0), (5, 27)])
def test_places_up_to_the_last_byte_are_inside(shared: SharedObject, offset: int, size: int) -> None:
    region = region_of(shared, 16, 32)
    region.check(SharedMemorySlice("r", offset, size))
    region.let_go()


async def test_a_client_that_truncates_its_object_gets_an_error(shared: SharedObject) -> None:
    region = region_of(shared, 16, 32)
    shared.resize(40)
    assert len(await region.read(0, 24)) == 24
    for attempt in (region.read(0, 25), region.read(30, 1), region.write(23, b"ab"), region.write(31, b"a")):
        with pytest.raises(InvalidArgument, match="shared memory region 'r' has become smaller"):
            await attempt
    assert shared.size == 40, "a write made the object grow"
    region.let_go()


async def test_a_client_that_truncates_a_large_object_gets_an_error() -> None:
    with shared_object(4 * MIB) as shared:
        region = region_of(shared, 0, 4 * MIB)
        shared.resize(3 * MIB)
        for attempt in (region.read(0, 4 * MIB), region.write(0, bytes(4 * MIB))):
            with pytest.raises(InvalidArgument, match="shared memory region 'r' has become smaller"):
                await attempt
        assert shared.size == 3 * MIB
        region.let_go()


async def test_an_object_that_was_unlinked_is_still_the_regions(shared: SharedObject) -> None:
    region = region_of(shared)
    shared.path.unlink()
    assert bytes(await region.read(1, 2)) == bytes([1, 2])
    region.let_go()


def test_the_last_to_let_go_closes_the_object(shared: SharedObject) -> None:
    region = region_of(shared)
    region.hold()
    region.let_go()
    assert times_open(shared) == 1
    region.let_go()
    assert times_open(shared) == 0


async def test_the_object_stays_open_for_work_that_no_one_waits_for_any_more() -> None:
    """Else its number could be another file's by the time the work is done."""
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    busy = threading.Event()
    occupied = threads.submit(busy.wait)
    with shared_object(2 * MIB) as shared:
        region = region_of(shared, 0, 2 * MIB)
        writing = asyncio.create_task(region.write(0, b"x" * 2 * MIB))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        region.let_go()
        assert times_open(shared) == 1
        busy.set()
        occupied.result()
        threads.shutdown()
        assert times_open(shared) == 0
        assert shared.read() == b"x" * 2 * MIB
