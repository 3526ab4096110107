"""The largest elements of an output as value, index and label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from ortolan.errors import InvalidArgument
from ortolan.inference.classification import MAX_ELEMENTS, classified
from ortolan.inference.datatypes import BY_NAME, BYTES, FP32, Array, Datatype
from ortolan.inference.request import Tensor

NAN, INF = float("nan"), float("inf")


def tensor(values: object, datatype: Datatype = FP32) -> Tensor:
    array = np.array(values, datatype.numpy)
    return Tensor("y", datatype, array.shape, array)


def classes(values: object, count: int, datatype: str = "FP32", labels: tuple[str, ...] = ()) -> list[str]:
    """The classes of one row."""
    (row,) = classified(tensor([values], BY_NAME[datatype]), count, True, labels).array.tolist()
    return [element.decode() for element in row]


@pytest.mark.parametrize(
    ("values", "count", "datatype", "labels", "expected"),
    [
        ([0.1, 0.7, 0.2], 1, "FP32", (), ["0.700000:1"]),
        ([0.1, 0.7, 0.2], 2, "FP32", (), ["0.700000:1", "0.200000:2"]),
        ([0.1, 0.7, 0.2], 9, "FP32", (), ["0.700000:1", "0.200000:2", "0.100000:0"]),  # as many as there are
        ([1.5, -2, 1e-9], 3, "FP64", (), ["1.500000:0", "0.000000:2", "-2.000000:1"]),
        ([3, -1, 2], 2, "INT32", (), ["3:0", "2:2"]),  # integers plain
        ([3, 255, 2], 1, "UINT8", (), ["255:1"]),
        ([2**63, 2**64 - 1], 2, "UINT64", (), [f"{2**64 - 1}:1", f"{2**63}:0"]),
        ([-(2**63), 0], 2, "INT64", (), ["0:1", f"{-(2**63)}:0"]),
        ([5, 5, 7, 5], 4, "INT8", (), ["7:2", "5:0", "5:1", "5:3"]),  # of equal ones the lowest index first
        ([NAN, -1, INF, -INF], 3, "FP32", (), ["inf:2", "-1.000000:1", "nan:0"]),  # NaN last, with -inf
        ([1e38], 1, "FP32", (), [f"{float(np.float32(1e38)):f}:0"]),
        ([1, 2, 3], 2, "FP32", ("a", "b", "c"), ["3.000000:2:c", "2.000000:1:b"]),
        ([1, 2, 3], 3, "FP32", ("a", "", "c"), ["3.000000:2:c", "2.000000:1", "1.000000:0:a"]),  # an empty line
        ([1, 2, 3], 3, "FP32", ("a",), ["3.000000:2", "2.000000:1", "1.000000:0:a"]),  # fewer labels than classes
        ([1], 1, "FP32", ("zéro:0",), ["1.000000:0:zéro:0"]),
    ],
)
def test_the_largest_come_first(
    values: list[float], count: int, datatype: str, labels: tuple[str, ...], expected: list[str]
) -> None:
    assert classes(values, count, datatype, labels) == expected


def test_an_output_that_lost_its_batch_dimension_is_one_row() -> None:
    assert classified(tensor(3), 2, True, ()).array.tolist() == [b"3.000000:0"]


@pytest.mark.parametrize("name", ["BOOL", "BYTES", "FP16", "BF16"])
def test_datatypes_without_classes_are_refused_by_name(name: str) -> None:
    array = np.zeros((1, 2), BY_NAME[name].numpy)
    with pytest.raises(InvalidArgument, match=f"class result not available for output 'y' due to .* type '{name}'"):
        classified(Tensor("y", BY_NAME[name], array.shape, array), 1, True, ())


@pytest.mark.parametrize(
    ("shape", "batching", "expected"),
    [
        ((4,), False, (3,)),
        ((2, 5), True, (2, 3)),
        ((2, 5), False, (3,)),  # without a batch dimension the whole tensor is one row
        ((2, 3, 4), True, (2, 3)),
        ((2, 1), True, (2, 1)),
        ((3,), True, (3, 1)),  # one number for each row
        ((), False, (1,)),
        ((0,), False, (0,)),
        ((2, 0), True, (2, 0)),
        ((0, 6), True, (0, 3)),  # no detections
        ((0, 0), True, (0, 0)),
    ],
)
def test_each_row_has_its_classes(shape: tuple[int, ...], batching: bool, expected: tuple[int, ...]) -> None:
    found = classified(tensor(np.zeros(shape)), 3, batching, ())
    assert found.shape == found.array.shape == expected
    assert (found.name, found.datatype) == ("y", BYTES)


def test_an_output_with_too_many_elements_is_not_classified() -> None:
    assert classified(tensor(np.zeros((1, MAX_ELEMENTS))), 1, True, ()).array.tolist() == [[b"0.000000:0"]]
    with pytest.raises(InvalidArgument, match="has 1000001 elements, and at most 1000000 can be classified"):
        classified(tensor(np.zeros((1, MAX_ELEMENTS + 1))), 1, True, ())


def parsed(element: bytes) -> tuple[float, int]:
    value, index = element.split(b":")
    return float(value), int(index)


@given(
    numpy_strategies.arrays(
        np.int32, numpy_strategies.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.integers(-4, 4)
    ),
    st.integers(1, 30),
)
def test_the_classes_are_a_sorted_choice_of_the_row(array: Array, count: int) -> None:
    found = classified(Tensor("y", BY_NAME["INT32"], array.shape, array), count, True, ()).array
    for row, values in zip(found, array.reshape(len(array), -1), strict=True):
        pairs = [parsed(element) for element in row]
        best = sorted(((int(value), index) for index, value in enumerate(values)), key=lambda pair: (-pair[0], pair[1]))
        assert pairs == best[:count]
