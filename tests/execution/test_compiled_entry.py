"""A compiled model on the disk is what was written, or nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ortolan.execution.compiled_entry import (
    MODEL,
    WEIGHTS,
    CompiledModel,
    Damaged,
    Refusal,
    read_entry,
    write_model,
    write_refusal,
)

KEY = "the key"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An entry as it was written."""
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / MODEL).write_bytes(b"graph" * 100)
    (folder / WEIGHTS).write_bytes(b"weights" * 100)
    write_model(folder, KEY, ("its locale was replaced",))
    return folder


def flip_a_byte(path: Path) -> None:
    """Change one byte, and have the file look as old as before."""
    before = path.stat()
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_short(path: Path) -> None:
    os.truncate(path, 100)


def link_elsewhere(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def test_what_was_written_is_read_again(folder: Path) -> None:
    for _ in range(2):
        assert read_entry(folder, KEY) == CompiledModel(folder / MODEL, ("its locale was replaced",))


def test_a_model_without_weights_of_their_own_is_one_file(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"graph")
    write_model(tmp_path, KEY, ())
    assert read_entry(tmp_path, KEY) == CompiledModel(tmp_path / MODEL, ())


def test_its_files_are_not_there_to_be_written(folder: Path) -> None:
    assert [oct((folder / name).stat().st_mode & 0o777) for name in (MODEL, WEIGHTS)] == ["0o400", "0o400"]


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
@pytest.mark.parametrize("harm", [flip_a_byte, cut_short, Path.unlink, link_elsewhere])
def test_a_file_that_is_not_as_it_was_is_damage(folder: Path, name: str, harm: Callable[[Path], None]) -> None:
    harm(folder / name)
    with pytest.raises(Damaged):
        read_entry(folder, KEY)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x\n{}", b"[" * 100_000, b"\n"])
def test_a_description_that_is_none_is_damage(folder: Path, content: bytes) -> None:
    (folder / "entry.json").write_bytes(content)
    with pytest.raises(Damaged):
        read_entry(folder, KEY)


def test_a_description_that_was_edited_is_damage(folder: Path) -> None:
    path = folder / "entry.json"
    path.write_text(path.read_text().replace("locale", "Locale"))
    with pytest.raises(Damaged, match="changed"):
        read_entry(folder, KEY)


def test_an_entry_of_another_model_is_damage(folder: Path) -> None:
    with pytest.raises(Damaged, match="another model"):
        read_entry(folder, "another key")


@pytest.mark.parametrize("stamp", [None, b"", b"{", b"[]", b"\xff"])
def test_without_a_stamp_the_checksums_tell(folder: Path, stamp: bytes | None) -> None:
    path = folder / "stamp.json"
    path.unlink()
    if stamp is not None:
        path.write_bytes(stamp)
    assert isinstance(read_entry(folder, KEY), CompiledModel)
    assert path.read_bytes() != stamp
    flip_a_byte(folder / WEIGHTS)
    with pytest.raises(Damaged):
        read_entry(folder, KEY)


def test_an_entry_that_was_copied_is_good_where_it_is(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert read_entry(copy, KEY) == CompiledModel(copy / MODEL, ("its locale was replaced",))


def test_a_refusal_says_why_and_keeps_no_files(folder: Path) -> None:
    write_refusal(folder, KEY, "its answers differ")
    assert read_entry(folder, KEY) == Refusal("its answers differ")
    assert not (folder / MODEL).exists()
    assert not (folder / WEIGHTS).exists()
