"""Copies that nobody else changes, of files that are the model's own."""

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import pytest

from ortolan.errors import Internal
from ortolan.repository.private_files import (
    FileRefused,
    copy_privately,
    open_inside,
    open_regular,
    read_inside,
    read_small,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links")
SIZES = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory, beside which there is a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "model" / "1" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "1" / "w.bin").write_text("weights")
    (tmp_path / "model" / "1" / "deep" / "v.bin").write_text("deeper")
    return tmp_path / "model"


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_has_the_content_and_its_hash(tmp_path: Path, size: int) -> None:
    content, seen = os.urandom(size), bytearray()
    (tmp_path / "source").write_bytes(content)
    with open_regular(tmp_path / "source") as source:
        digest = copy_privately(source, tmp_path / "deep" / "copy", seen.extend)
    assert (tmp_path / "deep" / "copy").read_bytes() == content == bytes(seen)
    assert digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_a_hash_that_is_known_is_not_computed_again(tmp_path: Path, size: int) -> None:
    content, states = os.urandom(size), []

    def known(state: os.stat_result) -> str:
        states.append(state.st_size)
        return "known"

    (tmp_path / "source").write_bytes(content)
    with open_regular(tmp_path / "source") as source:
        assert copy_privately(source, tmp_path / "copy", known=known) == "known"
    assert (tmp_path / "copy").read_bytes() == content
    assert states == [size]


def test_a_hash_that_is_known_is_that_of_the_file_in_one_state_only(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(3 << 20))
    with open_regular(path) as source, pytest.raises(FileRefused, match="changed while it was copied"):
        copy_privately(source, tmp_path / "copy", lambda _: path.chmod(0o600), lambda _: "known")


def test_a_file_with_more_holes_than_there_is_room_for_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.touch()
    os.truncate(path, 8 << 40)
    with open_regular(path) as source, pytest.raises(Internal, match="--model-copy-directory"):
        copy_privately(source, tmp_path / "copy")


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(3 << 20))

    def grow(_: bytes) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with open_regular(path) as source, pytest.raises(FileRefused, match="changed while it was copied"):
        copy_privately(source, tmp_path / "copy", grow)


@pytest.mark.parametrize("name", ["1/w.bin", "1/deep/v.bin"])
def test_files_inside_are_opened(model: Path, name: str) -> None:
    with open_inside(model / name, [model]) as file:
        assert file.read() == (model / name).read_bytes()


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("1/l.bin", "w.bin"),
        ("1/l.bin", "deep/v.bin"),
        ("2", "1"),
        ("1/l.bin", "../1/w.bin"),
    ],
)
def test_symbolic_links_inside_are_followed(model: Path, link: str, target: str) -> None:
    (model / link).symlink_to(target)
    path = model / link if link.endswith(".bin") else model / link / "w.bin"
    with open_inside(path, [model / "1", model]) as file:
        assert file.read() == path.read_bytes()


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("1/l.bin", "../../secret", "1/l.bin"),
        ("1/l.bin", "/etc/hostname", "1/l.bin"),
        ("1/out", "../..", "1/out/secret"),
        ("1/out", "/etc", "1/out/hostname"),
    ],
)
def test_symbolic_links_that_lead_out_are_refused(model: Path, link: str, target: str, path: str) -> None:
    (model / link).symlink_to(target)
    with pytest.raises(FileRefused, match="leads out of the model's directory"):
        open_inside(model / path, [model / "1", model])


def test_a_directory_that_is_itself_a_link_is_what_it_leads_to(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    with open_inside(tmp_path / "link" / "1" / "w.bin", [tmp_path / "link"]) as file:
        assert file.read() == b"weights"


def test_links_in_a_circle_are_refused(model: Path) -> None:
    (model / "a").symlink_to("b")
    (model / "b").symlink_to("a")
    with pytest.raises(FileRefused, match="cannot be read"):
        open_inside(model / "a", [model])


def test_what_is_no_regular_file_is_refused_at_once(model: Path) -> None:
    os.mkfifo(model / "pipe")
    for path in (model / "pipe", model / "1", Path("/dev/zero")):
        with pytest.raises(FileRefused, match="cannot be read: not a regular file"):
            open_regular(path)
    with pytest.raises(FileRefused, match="not a regular file"):
        open_inside(model / "pipe", [model])


def test_what_is_missing_is_told(model: Path) -> None:
    with pytest.raises(FileRefused, match="is not there"):
        open_inside(model / "1" / "none.bin", [model])


def test_hard_links_are_refused_where_that_is_wanted(model: Path) -> None:
    (model / "1" / "h.bin").hardlink_to(model.parent / "secret")
    with open_inside(model / "1" / "h.bin", [model]) as file:
        assert file.read() == b"secret"
    with pytest.raises(FileRefused, match=r"hard links.*--external-data-hard-links=refuse"):
        open_inside(model / "1" / "h.bin", [model], allow_hard_links=False)
    open_inside(model / "1" / "w.bin", [model], allow_hard_links=False).close()


def test_no_descriptor_stays_open(model: Path) -> None:
    (model / "1" / "l.bin").symlink_to("../../secret")
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for name in ("w.bin", "l.bin", "none.bin", "deep/v.bin", "deep"):
        with contextlib.suppress(FileRefused):
            open_inside(model / "1" / name, [model], allow_hard_links=False).close()
    assert sys.platform != "linux" or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
def test_a_file_that_claims_to_be_large_is_not_read(tmp_path: Path) -> None:
    """A sparse file has any size for nothing."""
    (tmp_path / "labels.txt").touch()
    os.truncate(tmp_path / "labels.txt", 1 << 40)
    for read in (lambda path: read_inside(path, tmp_path), lambda path: read_small(path, 1 << 20)):
        with pytest.raises(FileRefused, match="is larger than"):
            read(tmp_path / "labels.txt")


def test_a_small_file_is_read_without_memory_for_the_largest_one(tmp_path: Path) -> None:
    """Under a memory limit, a buffer for what a file might be is refused although the file is a few bytes long."""
    (tmp_path / "labels.txt").write_bytes(b"yes")
    assert read_inside(tmp_path / "labels.txt", tmp_path, most_bytes=1 << 60) == b"yes"
