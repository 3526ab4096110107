"""Which runs can be bound and how large outputs will be: tables of what graphs declare."""

import numpy as np
import pytest

from ortolan.execution.binding_plan import BindingPlan, BoundTensor, Dims, GraphNumbers, Shape, open_beyond_the_first
from ortolan.inference.datatypes import BF16, FP32, INT64, Datatype


def tensor(name: str, dims: Dims | None, datatype: Datatype = FP32) -> BoundTensor:
    return BoundTensor(name, datatype, dims, True)


def plan(inputs: list[BoundTensor], outputs: list[BoundTensor], required: frozenset[str] | None = None) -> BindingPlan:
    given = {each.name: each for each in inputs}
    return BindingPlan(given, {each.name: each for each in outputs}, frozenset(given) if required is None else required)


@pytest.mark.parametrize(
    ("given", "output", "shapes", "expected"),
    [
        ([("batch", 4)], ("batch", 10), [(3, 4)], (3, 10)),
        ([("batch", 4)], ("batch", 10), [(0, 4)], (0, 10)),  # no rows
        ([(2, 4)], (2, 10), [(2, 4)], (2, 10)),
        ([(2, 4)], (), [(2, 4)], ()),  # a scalar
        ([("b", "s")], ("b", "s", 128), [(3, 7)], (3, 7, 128)),
        ([("b", 4), ("s",)], ("s", "b"), [(3, 4), (7,)], (7, 3)),  # from two inputs
        ([("b", 4)], ("n", 4), [(3, 4)], None),  # a size of its own
        ([("b", 4)], (None, 4), [(3, 4)], None),  # one without a name
        ([("b", 4)], None, [(3, 4)], None),  # of any rank
        ([None], ("b", 4), [(3, 4)], None),
        ([("b", "b")], ("b", 4), [(3, 3)], (3, 4)),
        ([("b", "b")], ("b", 4), [(3, 5)], None),  # the runtime lets the same name be two sizes
        ([("b",), ("b",)], ("b", 4), [(3,), (5,)], None),
    ],
)
def test_the_size_of_an_output_is_told_by_names(
    given: list[Dims | None], output: Dims | None, shapes: list[Shape], expected: Shape | None
) -> None:
    inputs = [tensor(f"x{number}", dims) for number, dims in enumerate(given)]
    found = plan(inputs, [tensor("y", output)]).output_shapes(
        {f"x{number}": shape for number, shape in enumerate(shapes)}, ["y"]
    )
    assert found == {"y": expected}


X, Y = tensor("x", ("b", 4)), tensor("y", ("b", 4))
FLOATS, BITS, INTEGERS = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.uint16), np.zeros((1, 4), np.int64)


@pytest.mark.parametrize(
    ("made", "feeds", "names", "expected"),
    [
        (plan([X], [Y]), {"x": FLOATS}, ["y"], True),
        (plan([X], [Y]), {"x": FLOATS}, [], True),
        (plan([X], [Y]), {"x": INTEGERS}, ["y"], False),  # would be read as what it is not
        (plan([X], [Y]), {"x": FLOATS.astype(">f4")}, ["y"], False),
        (plan([X], [Y]), {"x": FLOATS}, ["text"], False),  # an output that cannot be bound
        (plan([X], [Y]), {}, ["y"], False),  # the runtime says which is missing
        (plan([X], [Y]), {"x": FLOATS, "z": FLOATS}, ["y"], False),  # one with a default, or that is unknown
        (plan([X], [Y], frozenset({"x", "text"})), {"x": FLOATS, "text": FLOATS}, ["y"], False),
        (plan([tensor("x", ("b", 4), BF16)], [Y]), {"x": BITS}, ["y"], True),
        (plan([tensor("x", ("b", 4), INT64)], [Y]), {"x": INTEGERS}, ["y"], True),
    ],
)
def test_only_runs_of_declared_numbers_are_bound(
    made: BindingPlan, feeds: dict[str, np.ndarray], names: list[str], expected: bool
) -> None:
    assert made.binds(feeds, names) is expected


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        ((4, 3), False),
        (("b", 3), False),
        ((None, 3), False),
        ((), False),
        (("b", "s"), True),
        ((1, None), True),
        (None, True),
    ],
)
def test_only_the_first_size_of_what_is_captured_may_be_open(dims: Dims | None, expected: bool) -> None:
    assert open_beyond_the_first(dims) is expected


def test_graphs_have_numbers_as_long_as_there_are_any() -> None:
    numbers = GraphNumbers(2)
    assert [numbers.of(((rows, 4),)) for rows in (1, 8, 1, 3, 8, 3)] == [1, 2, 1, None, 2, None]
