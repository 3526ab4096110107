"""NVIDIA's Triton server, taken out of a Python package, and our backend over ONNX Runtime, compiled for it."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from peer_process import UnavailableError

PACKAGE = "nvidia-pytriton==0.7.0"
BACKEND = "onnxruntime"
_SOURCES = Path(__file__).resolve().parent
_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")


@dataclass(frozen=True)
class Installation:
    program: Path
    libraries: Path
    """The folder of those that the program was packed with."""
    backends: Path


def installed(folder: Path) -> Installation:
    """The server and the backend in ``folder``, put there if they are not. Raises UnavailableError."""
    root = folder / PACKAGE
    if not root.exists():
        _unpack(_downloaded(folder / "wheels"), root)
    backends = folder / "backends"
    _compile(backends / BACKEND)
    return Installation(root / "pytriton/tritonserver/bin/tritonserver", root / "nvidia_pytriton.libs", backends)


def _downloaded(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), PACKAGE]
    if subprocess.run(command, check=False).returncode:
        raise UnavailableError(
            f"{PACKAGE}, in which NVIDIA packs the server, cannot be had (above, what pip says). "
            "It exists for Linux on x86-64 with glibc 2.35 or newer."
        )
    return next(folder.glob("nvidia_pytriton-*.whl"))


def _unpack(wheel: Path, root: Path) -> None:
    half = root.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(half)
    (half / "pytriton/tritonserver/bin/tritonserver").chmod(0o755)
    half.rename(root)


def _compile(folder: Path) -> None:
    # Under the name that the loader looks for; the package has it under its full version only.
    runtime, library = folder / "libonnxruntime.so.1", folder / f"libtriton_{BACKEND}.so"
    meant = _onnxruntime()
    if library.exists() and runtime.resolve() == meant and library.stat().st_mtime > _changed():
        return
    compiler = shutil.which("g++")
    if compiler is None:
        raise UnavailableError("g++, which compiles the backend, is missing; on Debian and Ubuntu: apt-get install g++")
    folder.mkdir(parents=True, exist_ok=True)
    runtime.unlink(missing_ok=True)
    runtime.symlink_to(meant)
    source = _SOURCES / "onnxruntime_backend.cpp"
    command = [compiler, *_FLAGS, str(source), "-o", str(library), str(runtime), "-Wl,-rpath,$ORIGIN"]
    if subprocess.run(command, check=False).returncode:
        raise UnavailableError("the backend does not compile (above, what g++ says)")


def _changed() -> float:
    """When the backend's source was last changed."""
    return max(each.stat().st_mtime for pattern in ("*.cpp", "*.h") for each in _SOURCES.glob(pattern))


def _onnxruntime() -> Path:
    folder = Path(onnxruntime.__file__).parent / "capi"
    found = next(folder.glob("libonnxruntime.so.*"), None)
    if found is None:
        raise UnavailableError(f"onnxruntime {onnxruntime.__version__} brings no libonnxruntime.so to compile against")
    return found.resolve()
