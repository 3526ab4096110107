"""Regions of a GPU's memory: the order and the limits of the calls, on a GPU that is made of the host's memory."""

import asyncio
import threading
from typing import Any

import pytest
from host_memory_gpu import HANDLE_BYTES, HostMemoryGpu

from ortolan.core.cuda_region import Cuda, CudaRegion
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from ortolan.inference.shared_memory import SharedMemorySlice


@pytest.fixture
def gpu() -> HostMemoryGpu:
    return HostMemoryGpu()


def cuda_of(gpu: Any) -> Cuda:
    return Cuda(gpu, gpu)


async def test_a_region_reads_and_writes_the_allocation(gpu: HostMemoryGpu) -> None:
    handle = gpu.exported(bytes(range(64)))
    region = CudaRegion("r", handle, 1, 64, cuda_of(gpu))
    assert bytes(await region.read(4, 3)) == bytes([4, 5, 6])
    assert bytes(await region.read(0, 0)) == b""
    await region.write(62, b"ab")
    await region.write(0, b"")
    assert gpu.content(handle) == bytes(range(62)) + b"ab"
    assert not gpu.unsynchronised, "the client could read before the bytes have arrived"
    region.let_go()
    assert gpu.opened == []


@pytest.mark.parametrize(
    ("handle", "device", "size", "message"),
    [
        (b"short", 0, 64, "the raw handle must have 64 bytes, got 5"),
        (b"", 0, 64, "the raw handle must have 64 bytes, got 0"),
        (b"x" * 65, 0, 64, "the raw handle must have 64 bytes, got 65"),
        (b"x" * HANDLE_BYTES, 0, 64, "the raw handle cannot be opened on GPU 0"),
        (None, 2, 64, "the device must be from 0 to 1, got 2"),
        (None, -1, 64, "the device must be from 0 to 1, got -1"),
        (None, 2**63, 64, "the device must be from 0 to 1, got"),
        (None, 0, 65, "expected 1 to 64 bytes, got 65"),
        (None, 0, 0, "expected 1 to 64 bytes, got 0"),
        (None, 0, 2**64 - 1, "expected 1 to 64 bytes, got"),
    ],
)
def test_what_cannot_be_opened_is_refused_and_left_closed(
    gpu: HostMemoryGpu, handle: bytes | None, device: int, size: int, message: str
) -> None:
    exported = gpu.exported(bytes(64))
    with pytest.raises(InvalidArgument) as raised:
        CudaRegion("r", exported if handle is None else handle, device, size, cuda_of(gpu))
    assert raised.value.message.startswith("failed to register CUDA shared memory region 'r': invalid args: " + message)
    assert gpu.opened == []


async def test_a_gpu_that_fails_is_an_internal_error(gpu: HostMemoryGpu) -> None:
    region = CudaRegion("r", gpu.exported(bytes(64)), 0, 64, cuda_of(gpu))
    gpu.allocations.clear()
    for attempt in (region.read(0, 4), region.write(0, b"a")):
        with pytest.raises(Internal, match="CUDA shared memory region 'r' failed \\(INVALID_VALUE\\)"):
            await attempt


async def test_clients_register_find_and_unregister_regions(gpu: HostMemoryGpu) -> None:
    regions = SharedMemoryRegions(allowed=True, find_cuda=lambda: cuda_of(gpu))
    handle = gpu.exported(bytes(64))
    await regions.register_cuda("a", handle, 1, 32)
    await regions.register_cuda("b", handle, 1, 64)
    with pytest.raises(AlreadyExists, match="shared memory region 'a' already in manager"):
        await regions.register_cuda("a", handle, 1, 32)
    assert [(r.name, r.device, r.size_bytes) for r in regions.status(CudaRegion, "")] == [("a", 1, 32), ("b", 1, 64)]
    await regions.unregister(CudaRegion, "a")
    with pytest.raises(NotFound, match="Unable to find cuda shared memory region: 'a'"):
        regions.status(CudaRegion, "a")
    await regions.unregister(CudaRegion, "")
    assert gpu.opened == []


async def test_a_region_that_is_in_use_is_closed_after_its_last_use(gpu: HostMemoryGpu) -> None:
    regions = SharedMemoryRegions(allowed=True, find_cuda=lambda: cuda_of(gpu))
    await regions.register_cuda("a", gpu.exported(b"abcd"), 0, 4)
    with regions.held([SharedMemorySlice("a", 0, 4)]) as held:
        await regions.unregister(CudaRegion, "a")
        assert bytes(await held["a"].read(0, 4)) == b"abcd"
    await asyncio.get_running_loop().shutdown_default_executor()
    assert gpu.opened == []
    assert gpu.closed_in != [threading.get_ident()], "the event loop waited for the GPU"


async def test_without_a_gpu_none_can_be_registered() -> None:
    regions = SharedMemoryRegions(allowed=True, find_cuda=lambda: None)
    with pytest.raises(InvalidArgument) as raised:
        await regions.register_cuda("a", bytes(HANDLE_BYTES), 0, 4)
    assert raised.value.message == "failed to register CUDA shared memory region: 'a', GPUs not supported"
    assert regions.status(CudaRegion, "") == []
    await regions.unregister(CudaRegion, "a")
