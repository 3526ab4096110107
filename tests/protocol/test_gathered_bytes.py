"""Pieces become one, in memory that is taken as they come, and that no piece outlives."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.protocol.gathered_bytes import GatheredBytes

MIB = 1 << 20


@given(st.lists(st.binary(max_size=3000), max_size=20), st.integers(0, 100_000))
def test_what_went_in_in_pieces_comes_out_as_one(pieces: list[bytes], room_to_spare: int) -> None:
    expected = b"".join(pieces)
    gathered = GatheredBytes(len(expected) + room_to_spare)
    for piece in pieces:
        gathered.add(memoryview(piece))
    whole = gathered.whole()
    assert (bytes(whole), whole.readonly, gathered.size_bytes) == (expected, True, len(expected))


@pytest.mark.parametrize("begun", [b"", b"12", b"12345"])
def test_the_rest_can_be_written_in_place(begun: bytes) -> None:
    gathered = GatheredBytes(5)
    gathered.add(begun)
    rest = gathered.rest()
    assert len(rest) == 5 - len(begun)
    rest[:] = b"12345"[len(begun) :]
    assert bytes(gathered.whole()) == b"12345"


@pytest.mark.parametrize(
    ("most", "size"),
    [(64 * MIB, 1), (64 * MIB, 20_000), (64 * MIB, MIB), (6 * MIB, 6 * MIB), (6 * MIB, 100), (700, 11), (1, 1)],
)
def test_there_is_never_room_for_much_more_than_came(most: int, size: int) -> None:
    """Who announces much and sends little gets little."""
    tracemalloc.start()
    try:
        gathered = GatheredBytes(most)
        gathered.add(bytes(size))
        assert tracemalloc.get_traced_memory()[0] <= min(most, 64 * size) + 2000
        assert size <= gathered.held_bytes <= size + 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("most", "size"),
    [(6 * MIB, 6 * MIB), (1_200_000, 1_200_000), (64 * MIB, 6 * MIB), (64 * MIB, 17 * MIB), (64 * MIB, 63 * MIB)],
    ids=["known", "known, small", "not known", "not known, larger", "not known, nearly the limit"],
)
def test_nothing_is_held_twice(most: int, size: int) -> None:
    """Counts what the pages of the process hold, because room that is not written to takes none."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process's memory")
    piece = np.ones(16_384, np.uint8).data
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    gathered = GatheredBytes(most)
    for _ in range(size // len(piece)):
        gathered.add(piece)
    assert _status_bytes("VmHWM") - before < size + 2.5 * MIB
    assert len(gathered.whole()) == gathered.size_bytes


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
