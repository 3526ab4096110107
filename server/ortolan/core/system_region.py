"""A region of POSIX shared memory, read and written by calls on its descriptor.

Nothing is mapped: a client that shrinks its object under a mapping would end the server with SIGBUS, where a call just
comes back short. Each request has its own copy, so that no client can change a tensor after it has been checked.
"""

import errno
import os
import stat
import sys
from typing import ClassVar

import numpy as np

from ortolan.core.memory_region import MemoryRegion
from ortolan.errors import InvalidArgument, OrtolanError, Unavailable, Unsupported

# Where Linux keeps these objects; shm_open() does nothing else there than to open a file in it.
_OBJECTS = "/dev/shm"  # noqa: S108 - no file is made here
_LONGEST_KEY_BYTES = 255
_PYTHON_BACKEND = "triton_python_backend_shm_region_"
_SEMAPHORE = "sem."
# Copied in a tenth of a millisecond, which is what a thread costs.
_QUICK_BYTES = 1 << 20


class SystemRegion(MemoryRegion):
    """``size_bytes`` of a shared memory object from ``offset`` on."""

    kind: ClassVar[str] = "system"

    def __init__(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Open the object that is called ``key``.

        Raises InvalidArgument for keys that cannot be, objects that cannot be opened and bytes that they do not have,
        Unavailable when the process can open nothing more, Unsupported on systems other than Linux.
        """
        super().__init__(name, size_bytes)
        if sys.platform != "linux":
            raise Unsupported("system shared memory is supported on Linux only; send tensors in the request")
        self.key = key
        self.offset = offset
        self._descriptor = _opened(name, _object_name(key))
        try:
            self._check_bounds()
        except OrtolanError:
            os.close(self._descriptor)
            raise

    async def read(self, offset: int, size: int) -> memoryview:
        """See MemoryRegion. Raises InvalidArgument when the object has become smaller than that."""
        if size <= _QUICK_BYTES:
            return self._read(offset, size)
        return await self._in_thread(self._read, offset, size)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See MemoryRegion. Raises InvalidArgument when the object has become too small, Unavailable without memory."""
        if len(data) <= _QUICK_BYTES:
            self._write(offset, data)
        else:
            await self._in_thread(self._write, offset, data)

    def _check_bounds(self) -> None:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _cannot_open(self.name)
        if self.size_bytes < 1 or self.offset > found.st_size or self.size_bytes > found.st_size - self.offset:
            raise InvalidArgument(
                f"failed to register shared memory region '{self.name}': invalid args: expected at least one byte, all "
                f"of them within the object's {found.st_size}, got the offset {self.offset} and {self.size_bytes} bytes"
            )

    def _read(self, offset: int, size: int) -> memoryview:
        # Unlike a bytearray's, its bytes are not set before they are read.
        data = np.empty(size, np.uint8).data
        done = 0
        while done < size:
            # One call moves 2 GiB at most.
            count = os.preadv(self._descriptor, [data[done:]], self.offset + offset + done)
            if not count:
                raise self._shrunk(offset, size)
            done += count
        return data

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        # A write past the end would make the object grow.
        if self.offset + offset + len(data) > os.fstat(self._descriptor).st_size:
            raise self._shrunk(offset, len(data))
        left, at = memoryview(data), self.offset + offset
        try:
            while left:
                count = os.pwrite(self._descriptor, left, at)
                left, at = left[count:], at + count
        except OSError as error:
            # An object has a size before it has that memory.
            raise Unavailable(
                f"shared memory region '{self.name}' cannot be written: {error.strerror}; the system may have no "
                "memory left for it"
            ) from error

    def _shrunk(self, offset: int, size: int) -> InvalidArgument:
        return InvalidArgument(
            f"shared memory region '{self.name}' has become smaller than it was when it was registered: it has no "
            f"{size} bytes at the offset {offset} any more. Unregister it, and register it with its new size"
        )

    def _close(self) -> None:
        os.close(self._descriptor)


def _object_name(key: str) -> str:
    """The object's name: the key without the slash that keys begin with. Raises InvalidArgument where it is none."""
    name = key.lstrip("/")
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidArgument("the key must be one name, after a '/' or without it, and not be '.' or '..'")
    if len(name.encode()) > _LONGEST_KEY_BYTES:
        raise InvalidArgument(f"the key must not be longer than {_LONGEST_KEY_BYTES} bytes")
    if name.startswith((_PYTHON_BACKEND, _SEMAPHORE)):
        raise InvalidArgument(
            f"keys that begin with '{_PYTHON_BACKEND}' are reserved, and those that begin with '{_SEMAPHORE}' name "
            "semaphores: the key must be that of a shared memory object"
        )
    return name


def _opened(region: str, object_name: str) -> int:
    """A descriptor of the object, which no link may stand for. The caller closes it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(f"{_OBJECTS}/{object_name}", flags)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise Unavailable("the server can open no more shared memory now; unregister what is not used") from error
        raise _cannot_open(region) from None


def _cannot_open(region: str) -> InvalidArgument:
    # The key stays out of it, and so does the reason: who asks must not learn which objects there are.
    return InvalidArgument(
        f"Unable to open shared memory region: '{region}'. Its key must be that of a shared memory object that the "
        "server sees and may read and write: create it first, on the same machine (containers must share their IPC "
        "namespace)"
    )
