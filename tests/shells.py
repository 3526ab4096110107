"""zsh and fish, out of the distribution's packages: to fetch them (``python tests/shells.py``) and to find them.

They are unpacked, not installed, so the places of their own functions have to be told them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foreign_packages import FAILURES, unpack_packages

HOME = Path(sys.prefix) / "shells"
"""Where they are put: in the virtual environment, so that they go with that."""

_SHELLS = ("zsh", "fish")
_KEPT = ("bin", "usr")


@dataclass(frozen=True)
class Shell:
    """A shell that starts; ``setting`` are lines by which it finds its own functions."""

    binary: Path
    setting: str
    environment: Mapping[str, str]


def found(name: str) -> Shell | str:
    """The fetched shell, else that on the PATH; or why there is none."""
    fetched = next((path for path in (HOME / "bin" / name, HOME / "usr" / "bin" / name) if path.exists()), None)
    binary = fetched or shutil.which(name)
    if binary is None:
        return f"{name} is not there: `make shells` fetches it"
    shell = Shell(Path(binary), _setting(name) if fetched else "", _environment())
    try:
        started = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=30, env=dict(shell.environment)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name} does not start: {type(error).__name__}"
    return f"{name} does not start: {started.stderr.strip()[-300:]}" if started.returncode else shell


def fetch() -> list[str]:
    """Put into ``HOME`` what is not there yet, nor installed; what could not be had, and why."""
    if not any(isinstance(found(name), str) for name in _SHELLS):
        return []
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        try:
            unpack_packages(_SHELLS, Path(scratch), with_what_they_need=True)
        except FAILURES as error:
            return [f"{' and '.join(_SHELLS)} could not be fetched: {type(error).__name__}"]
        for kept in _KEPT:
            shutil.rmtree(HOME / kept, ignore_errors=True)
            if (Path(scratch) / kept).exists():
                (Path(scratch) / kept).replace(HOME / kept)
    return []


def _setting(name: str) -> str:
    share = HOME / "usr" / "share"
    if name == "fish":
        return f"set fish_function_path {share}/fish/functions; set fish_complete_path {share}/fish/completions\n"
    # The tests' zsh looks for its modules where the package would have put them.
    modules = next((HOME / "usr" / "lib").glob("*/zsh/*"), HOME)
    functions = [path for path in sorted((share / "zsh" / "functions").rglob("*")) if path.is_dir()]
    return f"module_path=({modules}); fpath=({share}/zsh/functions {' '.join(map(str, functions))})\n"


def _environment() -> dict[str, str]:
    libraries = (*map(str, (HOME / "usr" / "lib").glob("*")), os.environ.get("LD_LIBRARY_PATH"))
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}


if __name__ == "__main__":
    for problem in fetch():
        print(f"{problem}; the tests that run them are skipped", file=sys.stderr)  # noqa: T201
