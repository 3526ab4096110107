"""Page-locked memory that is lent: by an allocator that knows what is out."""

import gc
import threading

import numpy as np
import pytest
from host_memory_gpu import HostMemoryGpu

from ortolan.execution.device_memory import CudaCalls
from ortolan.execution.host_buffers import HostBuffers

KIB = 1 << 10


@pytest.fixture
def gpu() -> HostMemoryGpu:
    return HostMemoryGpu()


def buffers(gpu: HostMemoryGpu, limit_bytes: int = 64 * KIB) -> HostBuffers:
    calls = CudaCalls(gpu, 0)
    return HostBuffers(calls.host_memory, calls.free_host_memory, limit_bytes)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_block_comes_back_when_the_last_view_of_its_array_has_gone(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu)
    first = lent.lend(5000)
    assert first.size == 5000
    assert address(first) in gpu.host
    view = first[16:32].view(np.float32).reshape(2, 2)
    place = address(first)
    del first
    assert address(lent.lend(5000)) != place, "a view of it was still there"
    del view
    assert address(lent.lend(8000)) in (place, *gpu.host)
    assert len(gpu.host) == 2


def test_what_is_lent_at_one_time_never_overlaps(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu)
    arrays = [lent.lend(4096) for _ in range(40)]  # more than there is room for
    for number, array in enumerate(arrays):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_beyond_the_limit_ordinary_memory_is_lent(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu, 8 * KIB)
    arrays = [lent.lend(4096) for _ in range(3)]
    assert [address(array) in gpu.host for array in arrays] == [True, True, False]
    assert lent.held_bytes == 8 * KIB


def test_where_the_system_has_no_more_ordinary_memory_is_lent(gpu: HostMemoryGpu) -> None:
    gpu.room_bytes = 4096
    lent = buffers(gpu)
    assert [address(lent.lend(size)) in gpu.host for size in (8192, 4096)] == [False, True]


def test_idle_blocks_of_another_size_make_room(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu, 16 * KIB)
    del (small := [lent.lend(4096) for _ in range(4)])[:]
    assert small == []
    assert address(lent.lend(16 * KIB)) in gpu.host
    assert lent.held_bytes == 16 * KIB


def test_idle_blocks_are_given_back_and_lent_ones_stay(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu)
    kept = lent.lend(4096)
    lent.lend(4096)
    lent.give_back()
    assert list(gpu.host) == [address(kept)]


def test_memory_outlives_the_pool_for_as_long_as_it_is_lent(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu)
    kept = lent.lend(4096)
    lent.lend(8192)
    del lent
    gc.collect()
    assert address(kept) in gpu.host
    del kept
    gc.collect()
    assert gpu.host == {}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097])
def test_any_size_is_lent_and_has_an_address(gpu: HostMemoryGpu, size: int) -> None:
    array = buffers(gpu).lend(size)
    assert array.size == size


def test_threads_that_borrow_at_once_share_nothing(gpu: HostMemoryGpu) -> None:
    lent = buffers(gpu, 1 << 20)
    wrong: list[int] = []

    def borrow(number: int) -> None:
        for _ in range(500):
            array = lent.lend(4096)
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=borrow, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert lent.held_bytes <= 4 * 8192
