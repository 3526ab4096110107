"""Files that were touched, copied or swapped, and whether they are others by it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ortolan.repository.directory import walk
from ortolan.repository.file_contents import Digests, FileContents, rests
from ortolan.repository.file_facts import FileFact

LONG_AGO_NS = 10**18


def digests(contents: FileContents, root: Path, *versions: int) -> Digests:
    return contents.digests(walk([root]).models["m"], versions)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (("1/model.onnx", "one"), ("2/model.onnx", "two"), ("config.pbtxt", "")):
        file = tmp_path / "m" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_a_version_has_its_own_files_and_those_that_all_share(root: Path) -> None:
    assert [path for path, _ in digests(FileContents(), root, 1)] == ["1/model.onnx", "config.pbtxt"]
    assert [path for path, _ in digests(FileContents(), root, 1, 2)] == ["1/model.onnx", "2/model.onnx", "config.pbtxt"]


def copy_over(file: Path) -> None:
    shutil.copy(file, file.with_name(".copy"))
    os.replace(file.with_name(".copy"), file)


@pytest.mark.parametrize(
    ("change", "another"),
    [
        (lambda file: os.utime(file), False),
        (lambda file: file.chmod(0o600), False),
        (copy_over, False),
        (lambda file: file.write_text("one"), False),
        (lambda file: file.write_text("eno"), True),
        (lambda file: (file.write_text("eno"), os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))), True),
        (lambda file: file.write_text("ones"), True),
        (lambda file: file.unlink(), True),
    ],
)
def test_only_another_content_changes_the_digests(root: Path, change: Callable[[Path], object], another: bool) -> None:
    contents, file = FileContents(), root / "m" / "1" / "model.onnx"
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = digests(contents, root, 1)
    change(file)
    assert (digests(contents, root, 1) != before) is another


def test_the_files_of_a_loose_directory_are_found(tmp_path: Path) -> None:
    for name in ("m.onnx/model.onnx", "m.onnx/weights.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = digests(FileContents(), tmp_path, 1)
    assert [path for path, _ in before] == ["model.onnx", "weights.bin"]
    (tmp_path / "m.onnx" / "weights.bin").write_text("others")
    assert digests(FileContents(), tmp_path, 1) != before


def test_a_file_that_cannot_be_read_stands_for_itself_by_its_facts(root: Path) -> None:
    entry = walk([root]).models["m"]
    (root / "m" / "1" / "model.onnx").unlink()
    ((_, marked), _) = FileContents().digests(entry, [1])
    assert marked.startswith("is not there")


@pytest.mark.parametrize(
    ("fact", "trusted"),
    [
        (FileFact("f", 1, LONG_AGO_NS, LONG_AGO_NS), True),
        (FileFact("f", 1, 4 * 10**18, LONG_AGO_NS), True),  # far ahead: no write of now would have that time
    ],
)
def test_a_time_of_long_ago_or_far_ahead_is_one_that_another_write_would_change(fact: FileFact, trusted: bool) -> None:
    assert rests(fact) is trusted


def test_a_file_that_was_written_just_now_may_be_written_again_unseen(root: Path) -> None:
    assert not any(rests(fact) for fact in walk([root]).models["m"].fingerprint)


def test_a_file_of_any_size_is_no_trouble_when_it_is_mostly_holes(root: Path) -> None:
    large = root / "m" / "1" / "weights.bin"
    large.touch()
    os.truncate(large, 8 << 40)
    contents = FileContents()
    before = digests(contents, root, 1)
    assert dict(before)["1/weights.bin"].startswith("not compared")
    assert digests(contents, root, 1) == before
    os.utime(large, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert digests(contents, root, 1) != before


def test_a_hash_is_known_by_the_state_of_its_file_and_not_of_one_that_was_just_written(root: Path) -> None:
    contents, file = FileContents(), root / "m" / "1" / "model.onnx"
    found = dict(digests(contents, root, 1))
    assert contents.known(file.stat()) is None
    os.utime(file, ns=(time.time_ns() + 10**15,) * 2)
    assert dict(digests(contents, root, 1)) == found
    assert contents.known(file.stat()) == found["1/model.onnx"]
    contents.forget("m")
    assert contents.known(file.stat()) is None


def test_a_hash_stays_known_when_the_model_is_renamed(root: Path) -> None:
    contents, file = FileContents(), root / "m" / "1" / "model.onnx"
    os.utime(file, ns=(time.time_ns() + 10**15,) * 2)
    known = dict(digests(contents, root, 1))["1/model.onnx"]
    (root / "m").rename(root / "n")
    assert contents.known((root / "n" / "1" / "model.onnx").stat()) == known
