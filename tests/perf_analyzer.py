"""Triton's load generator perf_analyzer: to fetch it (``python tests/perf_analyzer.py``), to find it, to run it.

Its binary came with the wheels of tritonclient until 2.60, and those after 2.49 want a newer C library than Debian 12
has. It needs two libraries beside it: CUDA's runtime, which another wheel has and which works without a GPU, and libb64
from the distribution.
"""

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foreign_packages import FAILURES, first, from_wheel, unpack_packages

HOME = Path(sys.prefix) / "perf_analyzer"
"""Where it is put: in the virtual environment, so that it goes with that."""
VARIABLE = "PERF_ANALYZER"
"""The environment variable that names another binary."""

_BINARY, _CUDA, _BASE64 = "perf_analyzer", "libcudart.so.12", "libb64.so.0d"


@dataclass(frozen=True)
class PerfAnalyzer:
    """A perf_analyzer that starts."""

    binary: Path

    def run(self, *arguments: str, timeout_s: float = 40) -> subprocess.CompletedProcess[str]:
        """Run it to its end; its output is in ``stdout``. Raises TimeoutExpired.

        Once in some three hundred runs, on a busy machine, it waited for ever: so it gets a second chance.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._run(arguments, timeout_s)
        return self._run(arguments, timeout_s)

    def _run(self, arguments: tuple[str, ...], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.binary, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "LD_LIBRARY_PATH": _library_path(self.binary.parent)},
        )


def found() -> PerfAnalyzer | str:
    """The binary that the variable names, else the fetched one, else that on the PATH; or why there is none."""
    named, fetched, installed = os.environ.get(VARIABLE), HOME / _BINARY, shutil.which(_BINARY)
    binary = Path(named) if named else fetched if fetched.exists() or not installed else Path(installed)
    if not binary.exists():
        return f"perf_analyzer is not there: `make perf-analyzer` fetches it, {VARIABLE} names one"
    tool = PerfAnalyzer(binary)
    try:
        started = tool.run("--version")
    except OSError as error:
        return f"perf_analyzer does not start: {error.strerror}"
    return f"perf_analyzer does not start: {started.stdout.strip()[-300:]}" if started.returncode else tool


def fetch(directory: Path) -> str:
    """Put the binary and what it needs into ``directory``, where they are not there yet; what was missing, or ""."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "there is a binary for Linux on x86-64 only"
    directory.mkdir(parents=True, exist_ok=True)
    parts: tuple[tuple[str, Callable[[Path], Path]], ...] = (
        (_BINARY, lambda into: from_wheel("tritonclient==2.49.0", _BINARY, into)),
        (_CUDA, lambda into: from_wheel("nvidia-cuda-runtime-cu12==12.9.79", _CUDA, into)),
        (_BASE64, _from_distribution),
    )
    for name, obtain in parts:
        if (directory / name).exists() or (name == _BASE64 and _system_has(name)):
            continue
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            try:
                obtain(Path(scratch)).replace(directory / name)
            except FAILURES as error:
                return f"{name} could not be fetched: {type(error).__name__}"
    (directory / _BINARY).chmod(0o755)
    return ""


def _from_distribution(into: Path) -> Path:
    """From Debian's or Ubuntu's package."""
    unpack_packages(["libb64-0d"], into)
    return first(into.glob(f"usr/lib/*/{_BASE64}")).resolve()


def _system_has(library: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(ctypes.CDLL(library))
    return False


def _library_path(directory: Path) -> str:
    return os.pathsep.join(filter(None, (str(directory), os.environ.get("LD_LIBRARY_PATH"))))


if __name__ == "__main__":
    if problem := fetch(HOME):
        sys.stderr.write(f"perf_analyzer: {problem}; the tests that use it will be skipped\n")
