from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ortolan.execution.model_statistics import FailureReason
from ortolan.replicas import frames

_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.floats(-1e9, 1e9)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def sent(message: object) -> Any:
    """``message`` after its way, taken apart as a receiver does."""
    data = b"".join(frames.frame_of(message))
    head, data = data[: frames.HEAD_BYTES], data[frames.HEAD_BYTES :]
    sizes, data = data[: frames.sizes_bytes(head)], data[frames.sizes_bytes(head) :]
    pieces = []
    for length in frames.lengths(head, sizes):
        pieces.append(data[:length])
        data = data[length:]
    assert not data
    return frames.message_of(pieces[0], pieces[1:])


@given(_VALUES)
def test_what_is_sent_arrives(value: object) -> None:
    assert sent([value]) == [value]


def test_dataclasses_arrive_as_objects_and_keys_as_text() -> None:
    @dataclass
    class Point:
        x: int
        by_rows: dict[int, bytes]

    assert sent(Point(1, {2: b"three"})) == {"x": 1, "by_rows": {"2": b"three"}}
    assert sent({FailureReason.OTHER: 1}) == {"OTHER": 1}


def test_what_json_does_not_have_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError):
        frames.frame_of(object())
