"""How much memory models hold: what the process has allocated, before and after each load.

What counts is bytes that are allocated and not given back, in the C library's heap, where ONNX Runtime keeps weights
and arenas; and files that are mapped and are no program, which are weights that stay in their file. Resident memory
tells less: of a load it counts what the runtime needed in between as well (340 MB for a model of 160 MB), and of a load
after an unload next to nothing, because it gets what lies there free.
"""

import ctypes
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MAPPINGS = Path("/proc/self/maps")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO = Path("/proc/meminfo")


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``, since 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class ProcessMemory:
    """The memory of this process. All methods may be called from any thread."""

    def __init__(self) -> None:
        library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._information: Any = getattr(library, "mallinfo2", None)
        self._trim: Any = getattr(library, "malloc_trim", None)
        if self._information is not None:
            self._information.restype = _MallInfo

    def held_bytes(self) -> int | None:
        """What is allocated and mapped now; None where the C library cannot tell (others than glibc)."""
        if self._information is None:
            return None
        found = self._information()
        return int(found.uordblks) + int(found.hblkhd) + _mapped_bytes()

    def give_back(self) -> None:
        """Let the system have what the heap keeps for later: after a load that is as much as the model again."""
        if self._trim is not None:
            self._trim(0)


def available_bytes() -> int:
    """The memory that this process may use: the machine's, or less where a cgroup limits it; 0 if nothing says it."""
    found = [int(text) for path in _CGROUP_LIMITS if (text := _text(path)).isdecimal()]
    total = next((line.split()[1] for line in _text(_MEMINFO).splitlines() if line.startswith("MemTotal:")), "0")
    # What is no limit is a number that no machine has.
    return min(each for each in (*found, int(total) * 1024) if each or not found)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _mapped_bytes() -> int:
    """The parts of files that are mapped, each counted once, without programs and libraries.

    They count as a whole, although the system reads them when they are first used and may let go of them again.
    """
    sizes: dict[tuple[str, str, str], int] = {}
    programs: set[str] = set()
    for line in _text(_MAPPINGS).splitlines():
        span, flags, offset, device, inode, *_ = line.split(maxsplit=5)
        if inode == "0":
            continue
        start, _, end = span.partition("-")
        sizes[device, inode, offset] = max(sizes.get((device, inode, offset), 0), int(end, 16) - int(start, 16))
        if "x" in flags:
            programs.add(f"{device} {inode}")
    return sum(size for (device, inode, _), size in sizes.items() if f"{device} {inode}" not in programs)


class MemoryUse:
    """What one load added to the memory of the process."""

    __slots__ = ("expected_bytes", "is_measured", "size_bytes")

    def __init__(self, expected_bytes: int = 0) -> None:
        self.expected_bytes = expected_bytes
        self.size_bytes = expected_bytes
        """What is known of it: until it has been measured, what was expected."""
        self.is_measured = False


class MemoryMeter:
    """Measures loads, several beside each other as well. All methods may be called from any thread.

    Of one load alone the growth is its own. Loads that overlap are measured together, from the begin of the first to
    the end of the last, when none has anything left that it needed in between; each gets a part of the growth by what
    was expected of it.
    """

    def __init__(self, memory: ProcessMemory | None = None) -> None:
        self._memory = memory or ProcessMemory()
        # Held while a load begins or ends, which looks at all memory: milliseconds, for which ``freed``, on the event
        # loop, is not to wait.
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._start_bytes: int | None = None
        self._under_way = 0
        self._ended: list[MemoryUse] = []

    def measured(self, use: MemoryUse, load: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What ``load`` returns, after ``use`` has been told what it added, or will be by a load beside it."""
        self._begin()
        loaded = False
        try:
            result = load(*args, **kwargs)
            loaded = True
        finally:
            self._end(use if loaded else None)
            self._memory.give_back()
        return result

    def give_back(self) -> None:
        """Let the system have what the heap keeps."""
        self._memory.give_back()

    def freed(self, size_bytes: int) -> None:
        """What is let go of while loads are measured is not to be taken off them."""
        with self._lock:
            if self._under_way and self._start_bytes is not None:
                self._start_bytes -= size_bytes

    def _begin(self) -> None:
        with self._looking:
            start_bytes = None if self._under_way else self._memory.held_bytes()
            with self._lock:
                if not self._under_way:
                    self._start_bytes = start_bytes
                self._under_way += 1

    def _end(self, use: MemoryUse | None) -> None:
        with self._looking:
            if use is not None:
                self._ended.append(use)
            now_bytes = self._memory.held_bytes() if self._under_way == 1 else None
            with self._lock:
                self._under_way -= 1
                if self._under_way:
                    return
                uses, self._ended = self._ended, []
                if now_bytes is not None and self._start_bytes is not None:
                    share(max(0, now_bytes - self._start_bytes), uses)


def share(grown_bytes: int, uses: list[MemoryUse]) -> None:
    """Tell each of ``uses`` its part of what they grew by together."""
    expected_bytes = sum(use.expected_bytes for use in uses)
    for use in uses:
        part = use.expected_bytes / expected_bytes if expected_bytes else 1 / len(uses)
        use.size_bytes, use.is_measured = int(grown_bytes * part), True
