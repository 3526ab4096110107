import json
import logging
from pathlib import Path

import pytest

from ortolan.core.trace import Trace
from ortolan.core.trace_writer import TraceFiles, TraceOutput, TraceWriter, require_writable
from ortolan.errors import StartupError


def trace(number: int) -> Trace:
    return Trace(number, "m", 1, "", {}, True, True)


def ids(path: Path) -> list[int]:
    return [each["id"] for each in json.loads(path.read_bytes())]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def test_what_was_put_is_written_when_the_writer_is_closed(path: Path) -> None:
    writer, output = TraceWriter(), TraceOutput(TraceFiles(path), 0)
    for number in range(100):
        writer.put(output, trace(number))
    writer.close()
    assert ids(path) == [*range(100)]


def test_a_writer_that_gets_nothing_writes_nothing(path: Path) -> None:
    TraceWriter().close()
    assert not path.exists()


def test_a_numbered_file_holds_so_many_traces(path: Path) -> None:
    output = TraceOutput(TraceFiles(path), 3)
    output.write([trace(0), trace(1)])
    output.write([trace(number) for number in range(2, 8)])
    assert [ids(Path(f"{path}.{number}")) for number in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert not path.exists()


def test_settings_that_write_to_the_same_files_do_not_disturb_each_other(path: Path) -> None:
    files = TraceFiles(path)
    first, second, third = TraceOutput(files, 0), TraceOutput(files, 0), TraceOutput(files, 2)
    writer = TraceWriter()
    for number, output in enumerate([first, third, second, third, first, third]):
        writer.put(output, trace(number))
    writer.close()
    assert ids(path) == [0, 2, 4]
    assert [ids(Path(f"{path}.{number}")) for number in range(2)] == [[1, 3], [5]]


def test_a_full_disk_is_told_once_and_stops_no_one(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full, fine = TraceOutput(TraceFiles(Path("/dev/full")), 0), TraceOutput(TraceFiles(path), 0)
    writer = TraceWriter()
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            writer.put(full, trace(number))
        writer.close()
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text

    other = TraceWriter()
    other.put(full, trace(1))
    other.put(fine, trace(2))
    other.close()
    assert ids(path) == [2]


def test_what_waits_for_the_disk_is_bounded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Large(Trace):
        @property
        def size_bytes(self) -> int:
            return 40 << 20

    writer, output = TraceWriter(), TraceOutput(TraceFiles(path), 0)
    for number in range(10):
        writer.put(output, Large(number, "m", 1, "", {}, True, True))
    writer.close()
    assert ids(path)[:2] == [0, 1]
    assert len(ids(path)) < 10
    assert [record.message for record in caplog.records] == [
        "traces come faster than they can be written; some are left out"
    ]


def test_a_place_that_can_be_written_is_left_as_it_is(path: Path) -> None:
    require_writable(path, "--flag")
    assert not path.exists()
    path.write_text("mine")
    require_writable(path, "--flag")
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named_with_its_flag(tmp_path: Path) -> None:
    for place, why in ((tmp_path, "Is a directory"), (tmp_path / "none" / "t.json", "No such file or directory")):
        with pytest.raises(StartupError) as refused:
            require_writable(place, "--flag")
        assert str(refused.value) == f"--flag: cannot write to '{place}': {why}"


def test_much_is_written_in_pieces_that_together_are_whole(path: Path) -> None:
    traces = [Trace(number, "m", 1, "", {"long": "x" * 1000}, True, True) for number in range(3000)]
    TraceOutput(TraceFiles(path), 0).write(traces)
    assert ids(path) == [*range(3000)]
    TraceOutput(TraceFiles(path), 2000).write(traces)
    assert [ids(Path(f"{path}.{number}")) for number in range(2)] == [[*range(2000)], [*range(2000, 3000)]]
