"""Triton's metrics of the machine's processor and memory, as Linux tells them in /proc; nothing elsewhere."""

from collections.abc import Iterator
from pathlib import Path

from ortolan.frontends.metrics.exposition import Family, Kind, sample

_KIB = 1024
# Of the numbers in /proc/stat these are of time in which nothing was done: idle, and waiting for a disk.
_IDLE, _WAITING = 3, 4
# What guests take is in the two first numbers as well.
_COUNTED = 8


class Machine:
    """All cores of the machine, whatever part of them the server may use; so does Triton."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before: tuple[int, int] | None = None
        self._utilization: float | None = None

    def look(self) -> None:
        """Work out what was used since the last look."""
        times = self._times()
        if times is not None and self._before is not None and times[0] > self._before[0]:
            idle = (times[1] - self._before[1]) / (times[0] - self._before[0])
            self._utilization = min(1.0, max(0.0, 1.0 - idle))
        self._before = times

    def families(self) -> Iterator[Family]:
        if self._utilization is not None:
            yield _gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", round(self._utilization, 6))
        memory = self._memory()
        if memory is not None:
            total, available = memory
            yield _gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", total)
            yield _gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", total - available)

    def _times(self) -> tuple[int, int] | None:
        """Ticks of all cores since the machine started, and those of them in which nothing was done."""
        try:
            name, *texts = (self._proc / "stat").read_text().split("\n", 1)[0].split()
            ticks = [int(text) for text in texts[:_COUNTED]]
        except (OSError, ValueError):
            return None
        return (sum(ticks), ticks[_IDLE] + ticks[_WAITING]) if name == "cpu" and len(ticks) > _WAITING else None

    def _memory(self) -> tuple[int, int] | None:
        """All bytes, and those that programs could have without others being swapped out."""
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            found = {name: int(value.split()[0]) * _KIB for name, _, value in (each.partition(":") for each in lines)}
            return found["MemTotal"], found["MemAvailable"]
        except (OSError, ValueError, KeyError, IndexError):
            return None


def _gauge(name: str, explanation: str, value: float) -> Family:
    kind: Kind = "gauge"
    return Family(name, kind, explanation, [sample(name, value)])
