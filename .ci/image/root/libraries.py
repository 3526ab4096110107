"""Which shared libraries a set of programs and extension modules loads, and which Debian packages those came in."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

_LOADED = re.compile(r"(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_ELF = b"\x7fELF"


def is_elf(path: Path) -> bool:
    """Whether it is a program or a shared library, by its first bytes."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def loaded_by(files: Iterable[Path]) -> list[Path]:
    """The libraries that the loader finds for ``files``, and the loader, by the paths that it finds them at.

    What it does not find is left out: the GPU's driver, say, which only the machine that runs the image has.
    """
    # A statically linked program makes ldd end with an error; it has nothing to tell.
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return sorted({Path(path) for path in _LOADED.findall(said)})


def packages_of(libraries: Iterable[Path]) -> Iterator[str]:
    """The names of the Debian packages that own ``libraries``; what was compiled on the spot has none."""
    for library in libraries:
        real = library.resolve()
        # The package database still has the names from before /lib became a link to /usr/lib.
        for name in (real, Path("/") / real.relative_to("/usr") if real.is_relative_to("/usr") else real):
            said = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True, check=False)
            if said.returncode == 0:
                yield said.stdout.split(":")[0]
                break
