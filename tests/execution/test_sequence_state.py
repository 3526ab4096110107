from pathlib import Path

import numpy as np
import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.sequence_state import initial_states, next_state, state_shapes
from ortolan.inference.datatypes import BOOL, BYTES, FP32, Datatype
from ortolan.repository.sequence_config import InitialState, SequenceState

ZERO = SequenceState("in", "out", FP32, (2, -1))


def from_file(datatype: Datatype = FP32) -> SequenceState:
    return SequenceState("in", "out", datatype, (-1,), InitialState("first", datatype, (3,), "first"))


@pytest.mark.parametrize(("batching", "shape"), [(True, (1, 2, 1)), (False, (2, 1))])
def test_a_state_is_zeros_by_default_and_its_open_sizes_are_one(batching: bool, shape: tuple[int, ...]) -> None:
    state = initial_states([ZERO], batching, Path())["in"]
    assert state.shape == shape
    assert not state.any()


def test_zeros_of_texts_are_empty() -> None:
    assert initial_states([SequenceState("in", "out", BYTES, (2,))], True, Path())["in"].tolist() == [[b"", b""]]


def test_an_initial_state_says_how_large_it_is() -> None:
    state = SequenceState("in", "out", FP32, (-1,), InitialState("first", FP32, (3,)))
    assert initial_states([state], True, Path())["in"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("datatype", "content", "values"),
    [
        (FP32, np.array([1, 2, 3], np.float32).tobytes(), [[1.0, 2.0, 3.0]]),
        (BOOL, b"\0\2\1", [[False, True, True]]),
        (BYTES, b"\1\0\0\0a\0\0\0\0\2\0\0\0bc", [[b"a", b"", b"bc"]]),
    ],
)
def test_an_initial_state_comes_from_a_file(
    tmp_path: Path, datatype: Datatype, content: bytes, values: list[object]
) -> None:
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state" / "first").write_bytes(content)
    assert initial_states([from_file(datatype)], True, tmp_path)["in"].tolist() == values


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file 'first' in the model's directory initial_state is not there"),
        (b"1234", "has 4 bytes, expected 12"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, content: bytes | None, said: str) -> None:
    (tmp_path / "initial_state").mkdir()
    if content is not None:
        (tmp_path / "initial_state" / "first").write_bytes(content)
    with pytest.raises(InvalidArgument) as refused:
        initial_states([from_file()], True, tmp_path)
    assert said in refused.value.message
    assert "the initial state 'first' of 'in'" in refused.value.message
    assert str(tmp_path) not in refused.value.message


def test_what_is_kept_of_a_batch_is_a_copy_of_its_row() -> None:
    outputs = {"out": np.arange(6.0).reshape(3, 2), "y": np.zeros(3)}
    kept = next_state([ZERO], outputs, 1)["in"]
    assert kept.tolist() == [[2.0, 3.0]]
    assert kept.base is None
    assert next_state([ZERO], outputs, None)["in"] is outputs["out"]


def test_states_of_fixed_sizes_can_always_share_a_batch() -> None:
    fixed = SequenceState("f", "g", FP32, (2,))
    states = (fixed, ZERO)
    one = {"f": np.zeros((1, 2)), "in": np.zeros((1, 2, 3))}
    other = {"f": np.zeros((1, 2)), "in": np.zeros((1, 2, 4))}
    assert state_shapes(states, one) != state_shapes(states, other)
    assert state_shapes([fixed], one) == state_shapes([fixed], other)
