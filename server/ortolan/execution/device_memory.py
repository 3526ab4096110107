"""The memory that a session's tensors are bound to: a GPU's beside page-locked host memory, or the host's alone.

Copies go through NVIDIA's bindings rather than through ONNX Runtime's ``update_inplace`` and ``bind_cpu_input``: those
copy while they keep Python's lock, these let go of it. Each lane of runs has a stream of its own, so that one lane's
copies go on while another computes.
"""

import contextlib
import ctypes
import importlib
import weakref
from typing import Any, Protocol

import numpy as np

from ortolan.execution.host_buffers import Bytes, HostBuffers
from ortolan.inference.datatypes import Array

# What sessions may hold of page-locked memory, each.
HOST_LIMIT_BYTES = 128 << 20


def address_of(array: Array) -> int:
    """Where the first element of a contiguous array is."""
    # A third quicker than ``array.ctypes``.
    return int(array.__array_interface__["data"][0])


class DeviceBlock(Protocol):
    """Memory of the device, freed when nothing refers to it."""

    address: int
    size_bytes: int


class Copies(Protocol):
    """Copies that are under way together, in order. Both ends must stay until ``wait`` returns."""

    def to_device(self, address: int, source: Array) -> None: ...

    def to_host(self, target: Array, address: int) -> None: ...

    def wait(self) -> None: ...


class DeviceMemory(Protocol):
    """``kind`` and ``device_id`` are the device as ONNX Runtime's bindings name it."""

    kind: str
    device_id: int

    def holds(self, memory_info: Any) -> bool:
        """Whether ``memory_info``, the runtime's description of where a tensor is, means this device."""

    def host(self, size_bytes: int) -> Bytes:
        """Host memory that copies are fast to and from, for as long as the array, or a view of it, is there."""

    def block(self, size_bytes: int) -> DeviceBlock: ...

    def copies(self) -> Copies: ...

    def give_back(self) -> None:
        """Free host memory that is kept for copies to come."""


class CudaFailure(Exception):
    """A call to CUDA failed; the text is CUDA's name for why."""


class CudaCalls:
    """Calls of the ``runtime`` module of NVIDIA's bindings, for one GPU: they give the result or raise CudaFailure."""

    def __init__(self, runtime: Any, device_id: int) -> None:
        self.runtime = runtime
        self.device_id = device_id

    def call(self, function: str, *arguments: Any) -> Any:
        # CUDA keeps for each thread which GPU its calls are for.
        self._checked(*self.runtime.cudaSetDevice(self.device_id))
        return self._checked(*getattr(self.runtime, function)(*arguments))

    def free(self, function: str, argument: Any) -> None:
        """At the end of the process the GPU may have gone before what is freed."""
        with contextlib.suppress(CudaFailure):
            self.call(function, argument)

    def host_memory(self, size_bytes: int) -> int:
        """The address of page-locked memory. Raises MemoryError."""
        try:
            return int(self.call("cudaHostAlloc", size_bytes, self.runtime.cudaHostAllocPortable))
        except CudaFailure as failure:
            raise MemoryError(str(failure)) from failure

    def free_host_memory(self, address: int) -> None:
        self.free("cudaFreeHost", address)

    def _checked(self, status: Any, *results: Any) -> Any:
        if int(status):
            raise CudaFailure(getattr(status, "name", str(status)))
        return results[0] if results else None


class CudaMemory:
    """A GPU's memory."""

    kind = "cuda"

    def __init__(self, calls: CudaCalls, host_limit_bytes: int = HOST_LIMIT_BYTES) -> None:
        self.device_id = calls.device_id
        self._calls = calls
        self._buffers = HostBuffers(calls.host_memory, calls.free_host_memory, host_limit_bytes)

    def holds(self, memory_info: Any) -> bool:
        return str(memory_info.name).lower() == "cuda" and int(memory_info.device_id) == self.device_id

    def host(self, size_bytes: int) -> Bytes:
        return self._buffers.lend(size_bytes)

    def block(self, size_bytes: int) -> "CudaBlock":
        """Raises CudaFailure where the GPU has not so much left."""
        return CudaBlock(size_bytes, self._calls)

    def copies(self) -> "CudaCopies":
        return CudaCopies(self._calls)

    def give_back(self) -> None:
        self._buffers.give_back()


class CudaBlock:
    """See DeviceBlock."""

    def __init__(self, size_bytes: int, calls: CudaCalls) -> None:
        self.address = int(calls.call("cudaMalloc", size_bytes))
        self.size_bytes = size_bytes
        weakref.finalize(self, calls.free, "cudaFree", self.address).atexit = False


class CudaCopies:
    """See Copies: in a stream of its own, which waits for no other."""

    def __init__(self, calls: CudaCalls) -> None:
        self._calls = calls
        self._to_device = calls.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = calls.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._stream = calls.call("cudaStreamCreateWithFlags", calls.runtime.cudaStreamNonBlocking)
        weakref.finalize(self, calls.free, "cudaStreamDestroy", self._stream).atexit = False

    def to_device(self, address: int, source: Array) -> None:
        self._copy(address, address_of(source), source.nbytes, self._to_device)

    def to_host(self, target: Array, address: int) -> None:
        self._copy(address_of(target), address, target.nbytes, self._to_host)

    def wait(self) -> None:
        self._calls.call("cudaStreamSynchronize", self._stream)

    def _copy(self, target: int, source: int, size_bytes: int, direction: Any) -> None:
        if size_bytes:
            self._calls.call("cudaMemcpyAsync", target, source, size_bytes, direction, self._stream)


class HostMemory:
    """The host's memory in the place of a device's: for sessions on the CPU, where binding was tried and is slower."""

    kind = "cpu"
    device_id = 0

    def holds(self, memory_info: Any) -> bool:
        return str(memory_info.name) == "Cpu"

    def host(self, size_bytes: int) -> Bytes:
        return np.empty(size_bytes, np.uint8)

    def block(self, size_bytes: int) -> "HostBlock":
        return HostBlock(size_bytes)

    def copies(self) -> "HostCopies":
        return HostCopies()

    def give_back(self) -> None:
        """Nothing is kept."""


class HostBlock:
    """See DeviceBlock."""

    def __init__(self, size_bytes: int) -> None:
        self._array = np.empty(max(1, size_bytes), np.uint8)
        self.address = address_of(self._array)
        self.size_bytes = size_bytes


class HostCopies:
    """See Copies: done at once."""

    def to_device(self, address: int, source: Array) -> None:
        ctypes.memmove(address, address_of(source), source.nbytes)

    def to_host(self, target: Array, address: int) -> None:
        ctypes.memmove(address_of(target), address, target.nbytes)

    def wait(self) -> None:
        """Nothing is under way."""


def cuda_memory(device_id: int) -> CudaMemory | None:
    """The memory of a GPU, or None where NVIDIA's bindings are not installed or find no such GPU."""
    try:
        calls = CudaCalls(importlib.import_module("cuda.bindings.runtime"), device_id)
        return CudaMemory(calls) if int(calls.call("cudaGetDeviceCount")) > device_id else None
    # The bindings raise RuntimeError for a driver that is missing or too old for them.
    except (ImportError, RuntimeError, CudaFailure):
        return None
