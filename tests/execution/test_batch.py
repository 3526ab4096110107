"""Joining the inputs of several requests and giving each its own part of the outputs back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import Internal
from ortolan.execution.batch import split, stack
from ortolan.inference.datatypes import Array


def rows_of(*values: float) -> Array:
    return np.array([[value] for value in values], np.float32)


def test_a_single_requests_inputs_are_taken_as_they_are() -> None:
    inputs = {"x": rows_of(1, 2)}
    assert stack([inputs]) is inputs


def test_inputs_are_joined_by_name_whatever_their_order() -> None:
    joined = stack([{"a": rows_of(1), "b": rows_of(2)}, {"b": rows_of(4), "a": rows_of(3)}])
    assert joined["a"].tolist() == [[1], [3]]
    assert joined["b"].tolist() == [[2], [4]]


def test_elements_of_bytes_are_joined_too() -> None:
    first, second = np.array([[b"a"]], object), np.array([[b"\xff"], [b""]], object)
    assert stack([{"x": first}, {"x": second}])["x"].tolist() == [[b"a"], [b"\xff"], [b""]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_each_request_gets_the_rows_that_it_gave(rows: list[int]) -> None:
    requests = [
        {"x": np.full((count, 2), index, np.int64), "z": np.full((count,), -index)} for index, count in enumerate(rows)
    ]
    joined = stack(requests)
    parts = split([joined["x"], joined["z"]], ["x", "z"], rows)
    assert len(parts) == len(rows)
    for request, part in zip(requests, parts, strict=True):
        np.testing.assert_array_equal(part[0], request["x"])
        np.testing.assert_array_equal(part[1], request["z"])


def test_the_parts_are_views_of_the_output() -> None:
    output = rows_of(1, 2, 3)
    parts = split([output], ["y"], [1, 2])
    assert all(np.shares_memory(part[0], output) for part in parts)


@pytest.mark.parametrize(
    "shape",
    [
        (),  # one number for the whole batch
        (1, 4),  # a sum over the batch
        (2, 4),
        (4, 3),  # transposed
        (12,),  # flattened
        (0, 4),  # detections, of which there are none
    ],
)
def test_an_output_that_loses_the_batch_dimension_is_nobodys(shape: tuple[int, ...]) -> None:
    with pytest.raises(Internal, match=r"output 'bad' has shape .* for a batch of 3 rows: .* max_batch_size to 0"):
        split([rows_of(1, 2, 3), np.zeros(shape, np.float32)], ["good", "bad"], [1, 2])
