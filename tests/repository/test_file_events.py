"""Which directory entries stand for a repository's place, and events from real directories."""

import threading
from pathlib import Path

import pytest

from ortolan.repository.file_events import FileEvents, places

SOON_S = 20


def test_a_plain_directory_is_its_own_place(tmp_path: Path) -> None:
    assert list(places(tmp_path / "repository")) == [tmp_path / "repository"]


def test_links_on_the_way_and_those_behind_them_are_places_too(tmp_path: Path) -> None:
    (tmp_path / "release-1" / "models").mkdir(parents=True)
    (tmp_path / "current").symlink_to("release-1")
    (tmp_path / "repository").symlink_to(tmp_path / "current" / "models")
    assert set(places(tmp_path / "repository")) == {tmp_path / "repository", tmp_path / "current"}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert set(places(tmp_path / "a")) == {tmp_path / "a", tmp_path / "b"}


@pytest.mark.parametrize("there", [True, False])
def test_a_change_in_a_root_or_its_appearing_is_told(tmp_path: Path, there: bool) -> None:
    root, told = tmp_path / "root", threading.Event()
    if there:
        root.mkdir()
    events = FileEvents([root], told.set)
    events.start()
    assert events.lacks_roots is not there
    try:
        # Whether the threads listen already cannot be seen from here: so there is an event until one is told.
        for attempt in range(10 * SOON_S):
            if there:
                (root / f"file{attempt}").touch()
            elif attempt % 2:
                root.rmdir()
            else:
                root.mkdir()
            if told.wait(0.1):
                break
        assert told.is_set()
    finally:
        events.stop()
