"""Objects of POSIX shared memory as a client makes them, for tests of those who open them."""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_OBJECTS = Path("/dev/shm")  # noqa: S108 - where the system keeps them

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason=f"shared memory is exchanged on Linux only, and this is {sys.platform}"
)


@dataclass
class SharedObject:
    """One object; ``key`` is what a client registers."""

    key: str

    @property
    def path(self) -> Path:
        return _OBJECTS / self.key.lstrip("/")

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Within the object, which keeps its size."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def resize(self, size: int) -> None:
        os.truncate(self.path, size)

    @property
    def size(self) -> int:
        return self.path.stat().st_size


@contextmanager
def shared_object(size: int = 64, content: bytes = b"") -> Iterator[SharedObject]:
    """A new object of ``size`` bytes that begins with ``content``; gone after the block."""
    found = SharedObject(f"/ortolan_test_{uuid.uuid4().hex}")
    found.path.write_bytes(content)
    found.resize(size)
    try:
        yield found
    finally:
        found.path.unlink(missing_ok=True)


def times_open(shared: SharedObject) -> int:
    """How many descriptors this process has of the object."""
    open_files = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
    # The descriptor that listed them is closed by now.
    return sum(os.path.realpath(file).startswith(str(shared.path)) for file in open_files)
