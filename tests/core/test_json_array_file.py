import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.json_array_file import JsonArrayFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "array.json"


def test_the_file_is_whole_after_every_write(path: Path) -> None:
    file = JsonArrayFile(path)
    assert not path.exists()
    for last in range(1, 5):
        file.append(json.dumps(last).encode())
        assert json.loads(path.read_bytes()) == [*range(1, last + 1)]


def test_several_elements_may_be_written_at_once(path: Path) -> None:
    file = JsonArrayFile(path)
    file.append(b"1,2")
    file.append(b'{"a":[]},4')
    assert json.loads(path.read_bytes()) == [1, 2, {"a": []}, 4]


@given(writes=st.lists(st.lists(st.text(), min_size=1), min_size=1))
def test_whatever_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, writes: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "array.json"
    file = JsonArrayFile(path)
    for write in writes:
        file.append(",".join(map(json.dumps, write)).encode())
    assert json.loads(path.read_bytes()) == [text for write in writes for text in write]


def test_a_file_of_an_earlier_process_is_replaced(path: Path) -> None:
    path.write_text("something much longer than what is to come")
    JsonArrayFile(path).append(b"1")
    assert json.loads(path.read_bytes()) == [1]


def test_a_file_that_was_moved_away_is_left_as_it_is_and_another_begun(path: Path, tmp_path: Path) -> None:
    file = JsonArrayFile(path)
    file.append(b"1")
    path.rename(tmp_path / "moved")
    file.append(b"2")
    assert json.loads((tmp_path / "moved").read_bytes()) == [1]
    assert json.loads(path.read_bytes()) == [2]


def test_a_file_that_someone_emptied_is_begun_anew(path: Path) -> None:
    file = JsonArrayFile(path)
    file.append(b"1")
    path.write_bytes(b"")
    file.append(b"2")
    file.append(b"3")
    assert json.loads(path.read_bytes()) == [2, 3]


@contextlib.contextmanager
def files_of_at_most_1000_bytes() -> Iterator[None]:
    """What a disk does that has room for a part of a write. For as short as can be: it holds for the tests' log too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_elements_that_do_not_fit_leave_the_file_as_it_was(path: Path) -> None:
    file = JsonArrayFile(path)
    with pytest.raises(OSError, match="too large"), files_of_at_most_1000_bytes():
        file.append(b"0" * 2000)
    assert path.read_bytes() == b""
    file.append(b"1")
    with pytest.raises(OSError, match="too large"), files_of_at_most_1000_bytes():
        file.append(b"9" * 2000)
    assert json.loads(path.read_bytes()) == [1]
    file.append(b"2")
    assert json.loads(path.read_bytes()) == [1, 2]


def test_a_full_disk_is_an_error_and_nothing_else() -> None:
    with pytest.raises(OSError, match="No space left"):
        JsonArrayFile(Path("/dev/full")).append(b"1")
