"""CPU time and memory of processes, and which of them listen on a port, as Linux tells it in /proc."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes used together. ``shared_out_bytes`` counts memory shared by n of them 1/n times (PSS)."""

    cpu_s: float
    resident_bytes: int
    shared_out_bytes: int


def usage(processes: Iterable[int]) -> Usage | None:
    """What the processes use together; None without any, or where the system has no /proc."""
    found = [each for each in map(_usage, processes) if each is not None]
    if not found:
        return None
    return Usage(
        sum(each.cpu_s for each in found),
        sum(each.resident_bytes for each in found),
        sum(each.shared_out_bytes for each in found),
    )


def with_descendants(processes: Iterable[int]) -> frozenset[int]:
    """The processes and all that they and their children started."""
    children: dict[int, list[int]] = {}
    for process in _all_processes():
        if stat := _stat(process):
            children.setdefault(int(stat[1]), []).append(process)
    found, open_ = set[int](), list(processes)
    while open_:
        process = open_.pop()
        if process not in found:
            found.add(process)
            open_ += children.get(process, ())
    return frozenset(found)


def listeners(ports: Iterable[int]) -> frozenset[int]:
    """The processes of this machine that listen on one of the TCP ports; only those that this user may look at."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(set(ports))}
    return frozenset(process for process in _all_processes() if sockets and _has_open(process, sockets))


def _usage(process: int) -> Usage | None:
    stat = _stat(process)
    if stat is None:
        return None
    resident = shared_out = int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
    # Another user's process does not tell it.
    with contextlib.suppress(OSError):
        for line in (_PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                shared_out = int(line.split()[1]) * 1024
    return Usage((int(stat[11]) + int(stat[12])) / _TICKS_PER_S, resident, shared_out)


def _stat(process: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the process' name; None if it is gone."""
    try:
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in _PROC.glob("[0-9]*")] if _PROC.is_dir() else []


def _listening_inodes(ports: set[int]) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) in ports:
                    inodes.add(fields[9])
    return inodes


def _has_open(process: int, sockets: set[str]) -> bool:
    try:
        descriptors = list((_PROC / str(process) / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) in sockets:
                return True
    return False
