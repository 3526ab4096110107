"""What of Python's own files and of the packages no server ever reads: by pattern, each group with its reason."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """Files and folders that go for one reason. ``patterns`` are globs below the folder that is trimmed."""

    reason: str
    patterns: tuple[str, ...]


# Nothing here is imported by what the server imports; tests and tools of other people, and sources of compiled code.
PACKAGES = (
    Group("ONNX Runtime again, for programs in C that link to it", ("onnxruntime/capi/libonnxruntime.so*",)),
    Group(
        "ONNX Runtime's tools for making models",
        (
            "onnxruntime/transformers",
            "onnxruntime/quantization",
            "onnxruntime/tools",
            "onnxruntime/datasets",
        ),
    ),
    Group("ONNX's test data and its slow runtime in Python", ("onnx/backend/test", "onnx/reference")),
    Group("tests of packages", ("*/tests", "numpy/**/tests")),
    Group("NumPy's compilers of Fortran and C", ("numpy/f2py", "numpy/distutils", "numpy/_pyinstaller")),
    Group("ReDoc, which is not shown", ("fastapi_offline/static/redoc*",)),
    Group(
        "sources, headers and types for compilers and editors",
        tuple(
            f"**/*.{ending}"
            for ending in ("pyi", "pyx", "pxd", "pxi", "c", "cc", "cpp", "h", "hpp", "cuh", "proto", "a")
        ),
    ),
)

STANDARD_LIBRARY = (
    Group("Python's tests", ("test", "**/tests", "**/test", "idlelib", "lib-dynload/_test*", "lib-dynload/_xx*")),
    Group("windows and terminals", ("tkinter", "turtle*", "curses", "lib-dynload/_tkinter*", "lib-dynload/_curses*")),
    Group(
        "line editing, databases and NIS, with the libraries that they load",
        tuple(f"lib-dynload/{name}.*" for name in ("readline", "_dbm", "_gdbm", "_sqlite3", "nis")),
    ),
    Group("installers, and what compiles against Python", ("ensurepip", "venv", "lib2to3", "config-*", "*-packages")),
    Group("the words of help()", ("pydoc_data",)),
    Group("bytecode of another place", ("**/__pycache__",)),
)


def found(folder: Path, group: Group) -> Iterator[Path]:
    """What there is of ``group`` below ``folder``."""
    for pattern in group.patterns:
        yield from sorted(folder.glob(pattern))
