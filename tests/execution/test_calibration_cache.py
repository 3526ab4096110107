"""Profiles on disk: found again by the same key, never a half one, and no file whatever is an error."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.execution.calibration import BITWISE, UNSAFE, Profile
from ortolan.execution.calibration_cache import CalibrationCache, CalibrationKey
from ortolan.execution.cost_curve import CurvePoint

KEY = CalibrationKey("ab" * 32, "1.23.0", ("CPUExecutionProvider",), 1, 8, "options")
POINTS = (CurvePoint(1, 1000, 10), CurvePoint(2, 1100, 0), CurvePoint(4, 1500, 7))
PROFILES = [
    Profile(POINTS, BITWISE),
    Profile(POINTS, UNSAFE, "its output 'y' does not keep the batch dimension"),
    Profile(POINTS, note="whether batching changes its answers could not be tested: Größe ≠ 1"),
]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_found_again(tmp_path: Path, profile: Profile) -> None:
    directory = tmp_path / "not" / "there" / "yet"
    CalibrationCache(directory).keep(KEY, profile)
    assert CalibrationCache(directory).find(KEY) == profile
    assert [path.name for path in directory.iterdir()] == [KEY.file_name]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_sha256="cd" * 32),
        replace(KEY, runtime="1.24.0"),
        replace(KEY, providers=("CUDAExecutionProvider", "CPUExecutionProvider")),
        replace(KEY, intra_op_threads=2),
        replace(KEY, max_batch_size=16),
        replace(KEY, options="others"),
    ],
)
def test_whatever_a_profile_depends_on_is_in_the_key(tmp_path: Path, other: CalibrationKey) -> None:
    cache = CalibrationCache(tmp_path)
    cache.keep(KEY, PROFILES[0])
    assert cache.find(other) is None
    cache.keep(other, PROFILES[1])
    assert (cache.find(KEY), cache.find(other)) == (PROFILES[0], PROFILES[1])


def test_a_model_that_could_not_be_measured_is_tried_again_next_time(tmp_path: Path) -> None:
    CalibrationCache(tmp_path).keep(KEY, Profile(note="it could not be measured"))
    assert list(tmp_path.iterdir()) == []


def plain(**changes: object) -> bytes:
    whole = {"points": [[1, 1000, 10]], "invariance": "bitwise", "unsafe_because": "", "note": ""} | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"5",
        b"[]",
        b'"text"',
        b"{}",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        plain(points=[]),
        plain(points=None),
        plain(points="1000"),
        plain(points={"1": 2}),
        plain(points=[[1]]),
        plain(points=[[1, 0, 0]]),
        plain(points=[[2, 1000, 0]]),
        plain(points=[[1, 1000, 0], [1, 1000, 0]]),
        plain(points=[[1, 1e3, 0]]),
        plain(points=[[1, float("nan"), 0]]),
        plain(points=[["1", "1000", "0"]]),
        plain(invariance=None),
        plain(invariance="perfect"),
        plain(invariance="unsafe"),  # without a reason it would be batched
        plain(unsafe_because="of a reason"),
        plain(note=None),
    ],
)
def test_a_file_that_is_no_profile_is_ignored_and_replaced(tmp_path: Path, content: bytes) -> None:
    cache = CalibrationCache(tmp_path)
    (tmp_path / KEY.file_name).write_bytes(content)
    assert cache.find(KEY) is None
    cache.keep(KEY, PROFILES[0])
    assert cache.find(KEY) == PROFILES[0]


def test_a_file_that_was_cut_off_is_ignored(tmp_path: Path) -> None:
    cache = CalibrationCache(tmp_path)
    cache.keep(KEY, PROFILES[1])
    path = tmp_path / KEY.file_name
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert cache.find(KEY) is None


@given(content=st.binary(max_size=200))
def test_no_content_whatever_is_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("cache")
    (directory / KEY.file_name).write_bytes(content)
    assert CalibrationCache(directory).find(KEY) is None


def test_without_a_directory_nothing_is_kept() -> None:
    cache = CalibrationCache(None)
    cache.keep(KEY, PROFILES[0])
    assert cache.find(KEY) is None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = CalibrationCache(tmp_path / "file" / "cache")
    cache.keep(KEY, PROFILES[0])
    assert cache.find(KEY) is None


def test_a_directory_that_cannot_be_written_is_no_error() -> None:
    # Not even root may write there.
    cache = CalibrationCache(Path("/proc"))
    cache.keep(KEY, PROFILES[0])
    assert cache.find(KEY) is None


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    in_the_way = tmp_path / KEY.file_name
    in_the_way.mkdir()
    cache = CalibrationCache(tmp_path)
    cache.keep(KEY, PROFILES[0])
    assert cache.find(KEY) is None
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_who_reads_meanwhile_finds_a_whole_profile(tmp_path: Path) -> None:
    cache = CalibrationCache(tmp_path)
    cache.keep(KEY, PROFILES[0])
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            cache.keep(KEY, PROFILES[number % len(PROFILES)])
        done.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while not done.is_set():
        assert cache.find(KEY) in PROFILES
    for writer in writers:
        writer.join()
    assert [path.name for path in tmp_path.iterdir()] == [KEY.file_name]
