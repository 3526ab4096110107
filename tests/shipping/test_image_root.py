"""How the files of the image are laid out, as far as that can be tried without building one."""

import os
from pathlib import Path

import lay_out
import pytest
import unused
from requirements import requirements

ROOT = Path(__file__).parents[2]


def test_a_file_is_copied_with_every_link_that_leads_to_it(tmp_path: Path) -> None:
    """As libraries are: /lib is a link, and so is the name that programs ask for."""
    system, root = tmp_path / "system", tmp_path / "root"
    (system / "usr" / "lib").mkdir(parents=True)
    (system / "lib").symlink_to("usr/lib")
    (system / "usr" / "lib" / "libx.so.1.2").write_bytes(b"code")
    (system / "usr" / "lib" / "libx.so.1").symlink_to("libx.so.1.2")
    root.mkdir()
    lay_out.copy(system / "lib" / "libx.so.1", root)
    inside = root / system.relative_to("/")
    assert os.readlink(inside / "lib") == "usr/lib"
    assert os.readlink(inside / "usr" / "lib" / "libx.so.1") == "libx.so.1.2"
    assert (inside / "lib" / "libx.so.1").read_bytes() == b"code"


def test_copying_a_file_again_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "root").mkdir()
    for _ in range(2):
        lay_out.copy(tmp_path / "file", tmp_path / "root")
    assert (tmp_path / "root" / (tmp_path / "file").relative_to("/")).read_bytes() == b"1"


def test_only_what_is_unused_goes(tmp_path: Path) -> None:
    for name in ("numpy/linalg/tests/test_x.py", "numpy/linalg/x.py", "numpy/x.pyi", "uvloop/loop.pyx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lay_out.trim(tmp_path, unused.PACKAGES)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "numpy/linalg/x.py"
    ]


def test_bytecode_is_good_whatever_the_date_of_its_source(tmp_path: Path) -> None:
    """PEP 552: the fourth byte after the magic number says how it is checked; 1 is never."""
    (tmp_path / "x.py").write_text("x = 1\n")
    lay_out.compile_sources(tmp_path, tmp_path)
    (compiled,) = tmp_path.glob("__pycache__/*.pyc")
    assert compiled.read_bytes()[4:8] == b"\x01\0\0\0"


def test_all_files_and_links_get_one_date(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    lay_out.set_dates(tmp_path)
    assert len({path.lstat().st_mtime for path in (tmp_path, *tmp_path.iterdir())}) == 1


def test_the_requirements_are_those_of_the_package_and_its_extras() -> None:
    found = requirements(ROOT / "pyproject.toml", ["cpu", "cloud"])
    assert {"onnxruntime", "obstore", "numpy"} <= {line.partition(">")[0] for line in found}


def test_an_extra_that_is_none_fails_the_build() -> None:
    with pytest.raises(KeyError):
        requirements(ROOT / "pyproject.toml", ["cpu", "clout"])
