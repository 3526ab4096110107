"""Directories for files that clients sent: private, removed in time, and not left over by those who were killed."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ortolan.errors import Internal, Unavailable
from ortolan.repository.override_directory import OverrideDirectories

FILES = {"1/model.onnx": b"model", "1/deep/er/weights.bin": b"", "labels.txt": b"a\nb"}
HOLDS = """
import sys
from pathlib import Path
from ortolan.repository.override_directory import OverrideDirectories
OverrideDirectories(Path(sys.argv[1])).build({"1/model.onnx": b"model"})
print("built", flush=True)
sys.stdin.read()
"""


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_files_are_where_they_should_be_until_they_are_removed(tmp_path: Path) -> None:
    directories = OverrideDirectories(tmp_path)
    first, second = directories.build(FILES), directories.build({"x": b"y"})
    assert contents(first) == FILES
    assert contents(second) == {"x": b"y"}
    directories.remove(first)
    assert not first.exists()
    assert contents(second) == {"x": b"y"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_no_other_user_may_look_inside(tmp_path: Path) -> None:
    OverrideDirectories(tmp_path).build(FILES)
    (own,) = tmp_path.iterdir()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_closing_removes_everything_and_takes_nothing_more(tmp_path: Path) -> None:
    directories = OverrideDirectories(tmp_path)
    directories.build(FILES)
    directories.close()
    assert not any(tmp_path.iterdir())
    with pytest.raises(Unavailable, match="stopping"):
        directories.build(FILES)
    directories.close()


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    directories = OverrideDirectories(tmp_path)
    directories.remove_left_overs()
    directories.close()
    assert not any(tmp_path.iterdir())


def test_many_threads_get_a_directory_each(tmp_path: Path) -> None:
    directories = OverrideDirectories(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        built = list(threads.map(lambda number: directories.build({"n": str(number).encode()}), range(40)))
    assert [contents(directory) for directory in built] == [{"n": str(number).encode()} for number in range(40)]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_told_without_its_path_and_leaves_nothing(tmp_path: Path) -> None:
    directories = OverrideDirectories(tmp_path)
    with pytest.raises(Internal, match=r"cannot be written: .*--model-copy-directory") as failure:
        directories.build({"fine": b"", "x" * 300: b""})
    assert str(tmp_path) not in failure.value.message
    (own,) = tmp_path.iterdir()
    assert not any(own.iterdir())
    with pytest.raises(Internal, match="No such file or directory"):
        OverrideDirectories(tmp_path / "nowhere").build(FILES)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, text=True)
        for _ in range(2)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "built\n"
        (tmp_path / "ortolan-models-file").write_text("no directory")
        (tmp_path / "ortolan-models-link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
        own = OverrideDirectories(tmp_path)
        own.build(FILES)
        assert len(list(tmp_path.glob("ortolan-models-????*"))) == 5
        holders[0].kill()
        holders[0].wait(10)
        own.remove_left_overs()
        OverrideDirectories(tmp_path).remove_left_overs()
        left = {path.name for path in tmp_path.iterdir()} - {"ortolan-models-file", "ortolan-models-link", "elsewhere"}
        assert len(left) == 2
        assert all(any((tmp_path / name).iterdir()) for name in left)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait(10)
            for stream in (holder.stdin, holder.stdout):
                assert stream is not None
                stream.close()


def test_a_directory_whose_maker_was_killed_before_it_was_locked_goes_when_it_is_old(tmp_path: Path) -> None:
    young, old, full = (tmp_path / f"ortolan-new-{name}" for name in ("young", "old", "full"))
    for directory in (young, old, full):
        directory.mkdir()
    (full / "file").touch()
    for directory in (old, full):
        os.utime(directory, (1_000_000_000, 1_000_000_000))
    OverrideDirectories(tmp_path).remove_left_overs()
    assert {*tmp_path.iterdir()} == {young, full}
