"""A GPU's memory by NVIDIA's functions, on a GPU that is made of the host's memory."""

import gc
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from host_memory_gpu import HostMemoryGpu

from ortolan.execution.device_memory import CudaCalls, CudaFailure, CudaMemory, cuda_memory


@pytest.fixture
def gpu() -> HostMemoryGpu:
    return HostMemoryGpu()


def test_copies_are_done_when_the_wait_is_over(gpu: HostMemoryGpu) -> None:
    memory = CudaMemory(CudaCalls(gpu, 1))
    copies, block = memory.copies(), memory.block(64)
    sent, fetched = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    copies.to_device(block.address, sent)
    copies.wait()
    copies.to_host(fetched, block.address)
    assert not fetched.any()
    copies.wait()
    assert (fetched == sent).all()


def test_what_is_not_used_any_more_is_freed(gpu: HostMemoryGpu) -> None:
    memory = CudaMemory(CudaCalls(gpu, 0))
    copies, block, array = memory.copies(), memory.block(64), memory.host(64)
    assert (len(gpu.device), len(gpu.host), len(gpu.streams)) == (1, 1, 1)
    del copies, block, array, memory
    gc.collect()
    assert (gpu.device, gpu.host, gpu.streams) == ({}, {}, [])


def test_a_gpu_without_room_and_one_that_is_not_there_are_told(gpu: HostMemoryGpu) -> None:
    gpu.room_bytes = 64
    with pytest.raises(CudaFailure, match="OUT_OF_MEMORY"):
        CudaMemory(CudaCalls(gpu, 0)).block(65)
    with pytest.raises(CudaFailure, match="INVALID_DEVICE"):
        CudaMemory(CudaCalls(gpu, 7)).copies()


def test_nothing_is_copied_of_what_has_no_elements(gpu: HostMemoryGpu) -> None:
    memory = CudaMemory(CudaCalls(gpu, 0))
    copies = memory.copies()
    copies.to_device(0, np.empty((0, 4), np.float32))
    copies.to_host(np.empty((0, 4), np.float32), 0)
    copies.wait()


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [("Cuda", 0, True), ("Cuda", 1, False), ("CudaPinned", 0, False), ("Cpu", 0, False)],
)
def test_only_what_is_on_this_gpu_is_there(gpu: HostMemoryGpu, name: str, number: int, expected: bool) -> None:
    assert CudaMemory(CudaCalls(gpu, 0)).holds(SimpleNamespace(name=name, device_id=number)) is expected


@pytest.mark.skipif(importlib.util.find_spec("cuda") is not None, reason="NVIDIA's bindings are installed")
def test_without_nvidias_bindings_there_is_no_such_memory() -> None:
    assert cuda_memory(0) is None
