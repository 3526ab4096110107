"""A region of a GPU's memory that another process allocated, opened by its CUDA IPC handle.

Every call is made in a thread, because it may wait for the GPU, and says for which GPU it is, because CUDA keeps that
for each thread. The bindings come with the ``gpu`` extra; without them, or without a GPU, no region can be registered.
"""

import asyncio
import ctypes
import importlib
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from ortolan.core.memory_region import MemoryRegion
from ortolan.errors import Internal, InvalidArgument

_DEFAULT_STREAM = 0


class CudaError(Exception):
    """A call to CUDA failed; the text is CUDA's name for why."""


class Cuda:
    """CUDA's runtime, as far as regions need it: each call returns its result or raises CudaError."""

    def __init__(self, runtime: ModuleType, driver: ModuleType) -> None:
        self._runtime = runtime
        self._driver = driver

    @property
    def handle_bytes(self) -> int:
        """How long an IPC handle is."""
        return int(self._runtime.CUDA_IPC_HANDLE_SIZE)

    def device_count(self) -> int:
        return int(self._called(self._runtime.cudaGetDeviceCount))

    def use(self, device: int) -> None:
        """Make ``device`` the one that this thread's further calls are for."""
        self._called(self._runtime.cudaSetDevice, device)

    def open(self, handle: bytes) -> int:
        """The address of the memory that another process exported as ``handle``."""
        opened = self._runtime.cudaIpcMemHandle_t()
        ctypes.memmove(opened.getPtr(), handle, self.handle_bytes)
        flags = self._runtime.cudaIpcMemLazyEnablePeerAccess
        return int(self._called(self._runtime.cudaIpcOpenMemHandle, opened, flags))

    def close(self, address: int) -> None:
        self._called(self._runtime.cudaIpcCloseMemHandle, address)

    def bytes_from(self, address: int) -> int:
        """How many bytes the allocation that ``address`` is in has from there on."""
        base, size = self._called(self._driver.cuMemGetAddressRange, address)
        return int(base) + int(size) - address

    def copy_from(self, address: int, into: int, size: int) -> None:
        """Copy from the device at ``address`` to the host at ``into``; complete on return."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._called(self._runtime.cudaMemcpy, into, address, size, kind)

    def copy_to(self, address: int, source: int, size: int) -> None:
        """Copy from the host at ``source`` to the device at ``address``; complete on return."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._called(self._runtime.cudaMemcpy, address, source, size, kind)
        # That returns when the bytes have left the host's memory, which may be before they have arrived.
        self._called(self._runtime.cudaStreamSynchronize, _DEFAULT_STREAM)

    def _called(self, function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if int(status):
            raise CudaError(status.name)
        return results[0] if len(results) == 1 else results


def load_cuda() -> Cuda | None:
    """CUDA, or None where its bindings are not installed or find no GPU. May take a second the first time."""
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
        cuda = Cuda(runtime, importlib.import_module("cuda.bindings.driver"))
        return cuda if cuda.device_count() else None
    # The bindings raise RuntimeError for a driver that is missing or too old for them.
    except (ImportError, RuntimeError, CudaError):
        return None


class CudaRegion(MemoryRegion):
    """The first ``size_bytes`` of an allocation on GPU ``device``."""

    kind: ClassVar[str] = "cuda"

    def __init__(self, name: str, raw_handle: bytes, device: int, size_bytes: int, cuda: Cuda) -> None:
        """Open the allocation; to be called in a thread.

        Raises InvalidArgument for a handle that cannot be opened on that GPU and for bytes that it does not have.
        """
        super().__init__(name, size_bytes)
        self.device = device
        self._cuda = cuda
        if len(raw_handle) != cuda.handle_bytes:
            raise self._cannot_register(f"the raw handle must have {cuda.handle_bytes} bytes, got {len(raw_handle)}")
        count = cuda.device_count()
        if not 0 <= device < count:
            raise self._cannot_register(f"the device must be from 0 to {count - 1}, got {device}")
        try:
            cuda.use(device)
            self._address = cuda.open(raw_handle)
        except CudaError as error:
            raise self._cannot_register(f"the raw handle cannot be opened on GPU {device} ({error})") from error
        self._check_bounds()

    async def read(self, offset: int, size: int) -> memoryview:
        """See MemoryRegion. Raises Internal when the GPU does not do it."""
        return await self._in_thread(self._read, offset, size)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See MemoryRegion. Raises Internal when the GPU does not do it."""
        await self._in_thread(self._write, offset, data)

    def _check_bounds(self) -> None:
        """Raises InvalidArgument, and closes the allocation, when it is smaller than the region."""
        try:
            size = self._cuda.bytes_from(self._address)
        except CudaError as error:
            self._close()
            raise self._cannot_register(f"its size cannot be told ({error})") from error
        if not 0 < self.size_bytes <= size:
            self._close()
            raise self._cannot_register(f"expected 1 to {size} bytes, got {self.size_bytes}")

    def _cannot_register(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"failed to register CUDA shared memory region '{self.name}': invalid args: {why}")

    def _read(self, offset: int, size: int) -> memoryview:
        data = np.empty(size, np.uint8)
        try:
            self._cuda.use(self.device)
            self._cuda.copy_from(self._address + offset, data.ctypes.data, size)
        except CudaError as error:
            raise Internal(f"reading the CUDA shared memory region '{self.name}' failed ({error})") from error
        return data.data

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        source = np.frombuffer(data, np.uint8)
        try:
            self._cuda.use(self.device)
            self._cuda.copy_to(self._address + offset, source.ctypes.data, source.nbytes)
        except CudaError as error:
            raise Internal(f"writing the CUDA shared memory region '{self.name}' failed ({error})") from error

    def _close_on_loop(self) -> None:
        # Nobody waits for it, so that nobody can give it up either; the loop's threads are joined at the end.
        asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        try:
            self._cuda.use(self.device)
            self._cuda.close(self._address)
        except CudaError:
            # The process that exported it has gone, and its memory with it.
            return
