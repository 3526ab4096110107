"""Lay out the files of the final image below one folder, as the Dockerfile's first stage does:

    python lay_out.py packages /opt/ortolan /image    trim, strip and compile what pip installed
    python lay_out.py system /opt/ortolan /image      Python, the shared libraries that all of it loads, /etc
    python lay_out.py own /opt/ortolan /image         move Ortolan itself out of the environment

What each writes below /image becomes a layer. /opt/ortolan, the virtual environment, leads to /image/packages. All
files get one date, so that equal files make equal layers.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from libraries import is_elf, loaded_by, packages_of
from unused import PACKAGES, STANDARD_LIBRARY, Group, found

USER = 10001
# Debian's own; NVIDIA's container toolkit and scanners of images look at them.
_DESCRIPTIONS = ("/etc/os-release", "/etc/debian_version")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_ACCOUNTS = {
    "passwd": f"root:x:0:0:root:/root:/sbin/nologin\nortolan:x:{USER}:{USER}:ortolan:/tmp:/sbin/nologin\n",
    "group": f"root:x:0:\nortolan:x:{USER}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_DATE = 315532800  # the first day of 1980: a zip file can hold no earlier one
# Packages whose wheels come with symbols for a debugger. Others have hardly any, and libraries that were patched after
# they were linked (numpy.libs) can break.
_STRIPPED = ("ml_dtypes", "uvloop", "httptools", "watchfiles")


def lay_out_packages(environment: Path, root: Path) -> None:
    """Trim, strip and compile what is installed in ``environment``, which lies in ``root`` already."""
    folder = site_packages(environment)
    trim(folder, PACKAGES)
    for command in environment.glob("bin/[!p]*"):
        command.unlink()
    strip_symbols(path for name in _STRIPPED for path in (folder / name).rglob("*"))
    compile_sources(folder, folder)
    (root / "opt").chmod(0o755)


def lay_out_system(environment: Path, root: Path) -> None:
    """Put into ``root`` the Python that runs ``environment``, and every file outside of both that they need."""
    standard_library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    target = root / standard_library.relative_to("/")
    shutil.copytree(standard_library, target, symlinks=True, ignore_dangling_symlinks=True)
    trim(target, STANDARD_LIBRARY)
    compile_sources(target, standard_library)
    copy((environment / "bin" / "python").readlink(), root)
    compiled = [path for folder in (target, environment) for path in folder.rglob("*") if is_elf(path)]
    loaded = loaded_by([Path(sys.executable).resolve(), *compiled])
    libraries = [path for path in loaded if not path.is_relative_to(environment)]
    for file in (*libraries, *map(Path, _DESCRIPTIONS), Path(_AUTHORITIES)):
        copy(file, root)
    describe(packages_of(libraries), root)
    write_etc(root)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def lay_out_own(environment: Path, root: Path) -> None:
    """Move Ortolan's package, its description and its command from ``environment`` to the same place in ``root``."""
    folder = site_packages(environment)
    compile_sources(folder / "ortolan", folder / "ortolan")
    licence = root / "usr/share/doc/ortolan"
    licence.mkdir(parents=True)
    shutil.copy2(next(folder.glob("ortolan-*.dist-info/licenses/LICENSE")), licence)
    for path in (*folder.glob("ortolan*"), environment / "bin" / "ortolan"):
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


def copy(path: Path, root: Path) -> None:
    """Copy one file of this system into ``root`` at the same place, and each link that leads to it."""
    for part in (*reversed(path.parents), path):
        inside = root / part.relative_to("/")
        if part.is_symlink():
            if not inside.is_symlink():
                inside.symlink_to(part.readlink())
            copy(part.parent / part.readlink(), root)
        elif part.is_dir():
            inside.mkdir(exist_ok=True)
        elif not inside.exists():
            shutil.copy2(part, inside)


def describe(packages: Iterable[str], root: Path) -> None:
    """Say which Debian packages are here, where scanners of images look, and under which licences."""
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in sorted(set(packages)):
        command = ["dpkg-query", "--status", package]
        (status / package).write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
        licence = Path("/usr/share/doc") / package / "copyright"
        if licence.exists():
            copy(licence, root)


def write_etc(root: Path) -> None:
    """Write who there is, how names are found, and where the loader looks for libraries."""
    for name, text in _ACCOUNTS.items():
        (root / "etc" / name).write_text(text)
    folders = [path.read_text() for path in sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))]
    (root / "etc/ld.so.conf").write_text("".join(folders))
    subprocess.run(["ldconfig", "-r", root], check=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)


def site_packages(environment: Path) -> Path:
    """Where packages are installed in a virtual environment."""
    return next(environment.glob("lib/python3*/site-packages"))


def trim(folder: Path, groups: Iterable[Group]) -> None:
    """Remove what nobody reads, and say how much of it there was."""
    for group in groups:
        size = 0
        for path in found(folder, group):
            size += size_of(path)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        print(f"{size / 1e6:7.1f} MB less: {group.reason}")


def strip_symbols(paths: Iterable[Path]) -> None:
    """Remove what only debuggers read from those of ``paths`` that are compiled, and say how much of it there was."""
    compiled = [path for path in paths if is_elf(path)]
    before = sum(map(size_of, compiled))
    for path in compiled:
        subprocess.run(["strip", "--strip-debug", path], check=True)
    print(f"{(before - sum(map(size_of, compiled))) / 1e6:7.1f} MB less: symbols for debuggers")


def compile_sources(folder: Path, place: Path) -> None:
    """Compile every source below ``folder``, which will be at ``place``.

    Nothing can be written beside them in a read-only image, so that each start would compile them anew: 2 s. The
    bytecode is good whatever the date of its source.
    """
    compileall.compile_dir(
        folder,
        quiet=1,
        stripdir=folder,
        prependdir=place,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def set_dates(root: Path) -> None:
    """Give every file, folder and link below ``root`` the same date."""
    for path in (root, *root.rglob("*")):
        if path.lstat().st_mtime != _DATE:
            os.utime(path, (_DATE, _DATE), follow_symlinks=False)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files of a folder."""
    return sum(each.lstat().st_size for each in (path, *path.rglob("*")) if each.is_symlink() or not each.is_dir())


STEPS = {"packages": lay_out_packages, "system": lay_out_system, "own": lay_out_own}


def main(step: str, environment: Path, image: Path) -> None:
    """Do one step and say how large what came of it is."""
    root = image / step
    root.mkdir(parents=True, exist_ok=True)
    STEPS[step](environment, root)
    set_dates(image)
    print(f"{size_of(root) / 1e6:7.1f} MB: {step}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
