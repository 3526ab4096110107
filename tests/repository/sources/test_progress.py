import logging
from collections.abc import Iterator

import pytest

from ortolan.repository.sources.progress import Progress, bytes_shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (999_960, "1.0 MB"),
        (5_000_000_000, "5.0 GB"), (2 * 10**15, "2000.0 TB"),
    ],
)  # fmt: skip
def test_sizes_are_shown_as_people_read_them(count: int, shown: str) -> None:
    assert bytes_shown(count) == shown


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (400_000_000, "fetching from s3://b: 25 %, 100.0 MB of 400.0 MB, 16.7 MB a second"),
        (None, "fetching from s3://b: 100.0 MB, 16.7 MB a second"),
    ],
)
def test_a_line_every_few_seconds(caplog: pytest.LogCaptureFixture, size: int | None, expected: str) -> None:
    times: Iterator[float] = iter([0.0, 1.0, 6.0, 7.0, 8.0])
    with caplog.at_level(logging.INFO):
        progress = Progress("s3://b", 1, size, lambda: next(times))
        for _ in range(3):
            progress.add(50_000_000)
        progress.end()
    begun, under_way, ended = [record.message for record in caplog.records]
    assert begun == ("fetching 1 file, 400.0 MB, from s3://b" if size else "fetching 1 file from s3://b")
    assert under_way == expected
    assert ended == "fetched 150.0 MB from s3://b in 8.0 s"


def test_without_files_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Progress("s3://b", 0, 0).end()
    assert not caplog.records
