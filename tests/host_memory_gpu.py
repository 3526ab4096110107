"""NVIDIA's functions over the host's memory, for tests of those who call them on machines without a GPU.

``exported`` stands for another process that allocates memory and gives its IPC handle away.
"""

import ctypes
import enum
import threading
from dataclasses import dataclass, field
from typing import Any

HANDLE_BYTES = 64


class Status(enum.IntEnum):
    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    INVALID_DEVICE = 101
    INVALID_HANDLE = 400


class Direction(enum.IntEnum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class Handle:
    """``cudaIpcMemHandle_t``, which only tells where its bytes are."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(HANDLE_BYTES)

    def getPtr(self) -> int:  # noqa: N802
        return ctypes.addressof(self.bytes)


class Stream:
    """``cudaStream_t``: copies that are done when somebody waits for them."""

    def __init__(self) -> None:
        self.copies: list[tuple[int, int, int]] = []

    def wait(self) -> None:
        for into, source, size in self.copies:
            ctypes.memmove(into, source, size)
        self.copies.clear()


@dataclass
class HostMemoryGpu:
    """Stands for both modules of the bindings, runtime and driver."""

    devices: int = 2
    allocations: dict[bytes, Any] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    closed_in: list[int] = field(default_factory=list)
    """The thread of each call that closed an allocation."""
    unsynchronised: int = 0
    """Copies to the device that nobody has waited for yet."""
    room_bytes: int = 1 << 30
    """Of the device, and of page-locked host memory."""
    only_its_own: bool = True
    """Whether copies fail that are of none of its allocations, as they would with memory that is the host's."""
    device: dict[int, Any] = field(default_factory=dict)
    host: dict[int, Any] = field(default_factory=dict)
    streams: "list[Stream]" = field(default_factory=list)

    CUDA_IPC_HANDLE_SIZE = HANDLE_BYTES
    cudaIpcMemLazyEnablePeerAccess = 1  # noqa: N815
    cudaMemcpyKind = Direction  # noqa: N815
    cudaIpcMemHandle_t = Handle  # noqa: N815

    def exported(self, content: bytes) -> bytes:
        """The handle of an allocation that holds ``content``."""
        handle = len(self.allocations).to_bytes(HANDLE_BYTES, "little")
        self.allocations[handle] = ctypes.create_string_buffer(content, len(content))
        return handle

    def content(self, handle: bytes) -> bytes:
        return bytes(self.allocations[handle].raw)

    def cudaGetDeviceCount(self) -> tuple[Status, int]:  # noqa: N802
        return Status.SUCCESS, self.devices

    def cudaSetDevice(self, device: int) -> tuple[Status]:  # noqa: N802
        return (Status.SUCCESS if device < self.devices else Status.INVALID_DEVICE,)

    def cudaIpcOpenMemHandle(self, handle: Handle, flags: int) -> tuple[Status, int | None]:  # noqa: N802
        found = self.allocations.get(handle.bytes.raw)
        if found is None or flags != self.cudaIpcMemLazyEnablePeerAccess:
            return Status.INVALID_HANDLE, None
        self.opened.append(ctypes.addressof(found))
        return Status.SUCCESS, self.opened[-1]

    def cudaIpcCloseMemHandle(self, address: int) -> tuple[Status]:  # noqa: N802
        self.opened.remove(address)
        self.closed_in.append(threading.get_ident())
        return (Status.SUCCESS,)

    def cuMemGetAddressRange(self, address: int) -> tuple[Status, int | None, int | None]:  # noqa: N802
        for allocation in self.allocations.values():
            if ctypes.addressof(allocation) == address:
                return Status.SUCCESS, address, len(allocation)
        return Status.INVALID_VALUE, None, None

    def cudaMemcpy(self, into: int, source: int, size: int, kind: Direction) -> tuple[Status]:  # noqa: N802
        device = into if kind == Direction.cudaMemcpyHostToDevice else source
        if not any(start <= device and device + size <= start + length for start, length in self._open_ranges()):
            return (Status.INVALID_VALUE,)
        ctypes.memmove(into, source, size)
        self.unsynchronised += kind == Direction.cudaMemcpyHostToDevice
        return (Status.SUCCESS,)

    def cudaStreamSynchronize(self, stream: "int | Stream") -> tuple[Status]:  # noqa: N802
        self.unsynchronised = 0
        if isinstance(stream, Stream):
            stream.wait()
        return (Status.SUCCESS,)

    # What sessions use: host and device memory, and streams whose copies are done when somebody waits, not before.

    cudaHostAllocPortable = 1  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:  # noqa: N802
        return self._allocated("device", size)

    def cudaFree(self, address: int) -> tuple[Status]:  # noqa: N802
        return self._freed("device", address)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int | None]:  # noqa: N802
        assert flags == self.cudaHostAllocPortable
        return self._allocated("host", size)

    def cudaFreeHost(self, address: int) -> tuple[Status]:  # noqa: N802
        return self._freed("host", address)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, "Stream"]:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        self.streams.append(Stream())
        return Status.SUCCESS, self.streams[-1]

    def cudaStreamDestroy(self, stream: "Stream") -> tuple[Status]:  # noqa: N802
        self.streams.remove(stream)
        return (Status.SUCCESS,)

    def cudaMemcpyAsync(  # noqa: N802
        self, into: int, source: int, size: int, kind: Direction, stream: "Stream"
    ) -> tuple[Status]:
        device = into if kind == Direction.cudaMemcpyHostToDevice else source
        inside = any(start <= device and device + size <= start + len(held) for start, held in self.device.items())
        if self.only_its_own and not inside:
            return (Status.INVALID_VALUE,)
        stream.copies.append((into, source, size))
        return (Status.SUCCESS,)

    def _allocated(self, where: str, size: int) -> tuple[Status, int | None]:
        held: dict[int, Any] = getattr(self, where)
        if size + sum(map(len, held.values())) > self.room_bytes:
            return Status.OUT_OF_MEMORY, None
        buffer = ctypes.create_string_buffer(size)
        held[ctypes.addressof(buffer)] = buffer
        return Status.SUCCESS, ctypes.addressof(buffer)

    def _freed(self, where: str, address: int) -> tuple[Status]:
        del getattr(self, where)[address]
        return (Status.SUCCESS,)

    def _open_ranges(self) -> list[tuple[int, int]]:
        ranges = [(ctypes.addressof(buffer), len(buffer)) for buffer in self.allocations.values()]
        return [each for each in ranges if each[0] in self.opened]
