"""Repositories whose volume goes: links stand for mounts, for what they lead to is on another file system as well."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest

from ortolan.repository.directory import RepositoryListing, survey
from ortolan.repository.mounts import Mounts

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system that is not that of temporary files


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on another file system than ``tmp_path``."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one model, by a link."""
    onnx_models.save_version(tmp_path / "volume", "m", onnx_models.identity())
    (tmp_path / "root").symlink_to("volume")
    return tmp_path / "root"


def flip(root: Path, target: Path) -> None:
    root.unlink()
    root.symlink_to(target)


def look(mounts: Mounts, root: Path) -> RepositoryListing:
    return mounts.survey(lambda: survey([root]))


def test_an_empty_directory_on_another_file_system_is_no_repository_until_something_is_there(
    root: Path, elsewhere: Path
) -> None:
    mounts = Mounts()
    assert not look(mounts, root).unreadable
    flip(root, elsewhere)
    for _ in range(2):
        listing = look(mounts, root)
        assert list(listing.unreadable) == [root]
        assert "what was mounted there is gone" in listing.unreadable[root]
    onnx_models.save_version(elsewhere, "other", onnx_models.identity())
    assert not look(mounts, root).unreadable
    flip(root, root.with_name("volume"))
    assert not look(mounts, root).unreadable


def test_an_empty_directory_on_the_same_file_system_is_an_empty_repository(root: Path, tmp_path: Path) -> None:
    mounts = Mounts()
    look(mounts, root)
    (tmp_path / "empty").mkdir()
    flip(root, tmp_path / "empty")
    assert not look(mounts, root).unreadable


def test_what_was_empty_from_the_start_is_so(elsewhere: Path) -> None:
    mounts = Mounts()
    assert not look(mounts, elsewhere).unreadable
    assert not look(mounts, elsewhere).unreadable


def test_a_root_that_is_not_there_says_so_itself(root: Path) -> None:
    mounts = Mounts()
    look(mounts, root)
    os.unlink(root)
    assert "does not exist" in look(mounts, root).unreadable[root]
