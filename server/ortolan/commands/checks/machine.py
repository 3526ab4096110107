"""What the machine or the container gives the server: cores, memory, open files, time, room for temporary files."""

import os
import shutil
import sys
import tempfile
import time

from ortolan.commands.checks.finding import Finding, broken, ok, warning

_MEMORY_ENOUGH = 512 << 20
_FILES_ENOUGH, _FILES_NEEDED = 4096, 256
_TEMPORARY_ENOUGH = 64 << 20
# Nothing of this is older: a clock before it fails every check of certificates and tokens. 2026-01-01.
_EARLIEST_S = 1_767_225_600


def check() -> list[Finding]:
    """All of it; of what the system does not tell there is nothing to say."""
    return [*_cores(), *_memory(), *_open_files(), clock(time.time()), *temporary_files()]


def _cores() -> list[Finding]:
    try:
        from ortolan.execution.devices import usable_cores
    # What it needs is not installed, which another check tells.
    except ImportError:
        return []
    present, usable = os.cpu_count() or 1, usable_cores()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    if usable < present:
        by = "the container's CPU quota" if usable < affinity else "the process' affinity"
        return [ok("cores", f"{usable} of {present}, by {by}; models have as many threads in all")]
    return [ok("cores", str(usable))]


def _memory() -> list[Finding]:
    try:
        from ortolan.core.memory_amount import shown
        from ortolan.core.memory_meter import available_bytes
    except ImportError:
        return []
    size = available_bytes()
    return [memory(size, shown(size))] if size else []


def memory(size_bytes: int, shown: str) -> Finding:
    if size_bytes < _MEMORY_ENOUGH:
        return warning("memory", f"{shown} may be used", "raise the container's limit: the server alone takes 150 MiB")
    return ok("memory", f"{shown} may be used")


def _open_files() -> list[Finding]:
    if sys.platform == "win32":
        return []
    import resource

    return [open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))]


def open_files(soft: int, hard: int) -> Finding:
    """Connections and models need them; a limit below zero is none."""
    text = "no limit" if soft < 0 else f"{soft} at most"
    # Up to the hard limit a shell may raise it.
    remedy = f"ulimit -n {min(65_536, hard) if hard > 0 else 65_536}, LimitNOFILE= of systemd, or --ulimit of Docker"
    if 0 <= soft < _FILES_NEEDED:
        return broken("open files", f"{text}: a server with some clients needs more", remedy)
    if 0 <= soft < _FILES_ENOUGH:
        return warning("open files", f"{text}: each connection takes one", remedy)
    return ok("open files", text)


def clock(now_s: float) -> Finding:
    text = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    if now_s < _EARLIEST_S:
        return broken("clock", f"{text} is in the past: certificates and tokens are refused", "set the machine's clock")
    return ok("clock", text)


def temporary_files() -> list[Finding]:
    """Copies of models that clients send, and of those that are loaded, are made there."""
    try:
        directory = tempfile.gettempdir()
    except OSError:
        text = "no directory for temporary files can be written to"
        return [broken("temporary files", text, "mount a tmpfs at /tmp, or set TMPDIR")]
    free = shutil.disk_usage(directory).free
    if free < _TEMPORARY_ENOUGH:
        text = f"{free >> 20} MiB are free in {directory}"
        return [warning("temporary files", text, "make room there, or set TMPDIR to another place")]
    return [ok("temporary files", f"{directory}, {free >> 20} MiB free")]
