"""Lines to a pipe: whoever logs never waits for it, what is lost is counted, and the rest is whole and in order."""

import io
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from ortolan.log_stream import MOST_WAITING, StandardStream, StreamHandler

WAIT_S = 30
LINE = "x" * 100


class Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.stream = io.TextIOWrapper(io.FileIO(self.write_end, "w"), encoding="utf-8")

    def lines_until(self, marker: str) -> list[str]:
        """What is read up to a line that has ``marker``."""
        lines = []
        with open(self.read_end, encoding="utf-8", closefd=False) as reader:
            for line in reader:
                lines.append(line.removesuffix("\n"))
                if marker in line:
                    break
        return lines


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.read_end)
    pipe.stream.close()


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("ortolan", logging.INFO, "", 0, message, None, None)


def test_who_logs_to_a_pipe_that_nobody_reads_goes_on_and_what_is_lost_is_counted(pipe: Pipe) -> None:
    handler = StreamHandler(StandardStream(pipe.stream))
    count = 3 * MOST_WAITING
    for number in range(count):
        handler.handle(record(f"{number} {LINE}"))
    handler.flush()
    *lines, told = pipe.lines_until("lines were lost")
    # In their order; when the thread comes to write, which ones are lost depends on the machine.
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert {line.split()[1] for line in lines} == {LINE}
    assert f"{count - len(lines)} so far" in told
    assert count > len(lines) >= MOST_WAITING


def test_all_is_written_at_the_end(pipe: Pipe) -> None:
    handler = StreamHandler(StandardStream(pipe.stream))
    handler.handle(record("größer \udc80"))
    handler.handle(record("last"))
    handler.flush()
    os.set_blocking(pipe.read_end, False)
    assert os.read(pipe.read_end, 100).decode() == "größer \\udc80\nlast\n"


def test_a_pipe_that_does_not_block_takes_everything_too(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    stream = StandardStream(pipe.stream)

    def write() -> None:
        for number in range(2000):
            stream.write(f"{number} {LINE}")
        stream.write("end")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert pipe.lines_until("end") == [*(f"{number} {LINE}" for number in range(2000)), "end"]
    writer.join(WAIT_S)


def test_lines_that_nobody_can_read_any_more_are_no_error() -> None:
    pipe = Pipe()
    os.close(pipe.read_end)
    stream = StandardStream(pipe.stream)
    stream.write("lost")
    pipe.stream.close()
    stream.write("lost, too")
