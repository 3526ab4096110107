"""Requests of different shapes as one batch: what the model is told of them, and who gets what of its answer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ragged
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.ragged_batch import RaggedForm, batch_input
from ortolan.inference.datatypes import FP32, INT32, Array, Datatype
from ortolan.repository.config_file import parse_text
from ortolan.repository.ragged_config import BatchInputKind

KIND = BatchInputKind
SHAPES = [(1, 3, 2), (1, 1, 2), (2, 4, 2)]


def form_of(text: str) -> RaggedForm:
    form = RaggedForm.of(parse_text(text, "m"))
    assert form is not None
    return form


def row(*values: float) -> dict[str, Array]:
    return {"x": np.array([values], np.float32)}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (KIND.ELEMENT_COUNT, [6, 2, 16]),  # of each request, all of its rows together
        (KIND.ACCUMULATED_ELEMENT_COUNT, [6, 8, 24]),
        (KIND.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO, [0, 6, 8, 24]),
        (KIND.MAX_ELEMENT_COUNT_AS_SHAPE, [0] * 16),
        (KIND.ITEM_SHAPE, [[3, 2], [1, 2], [4, 2], [4, 2]]),  # of each row, without the batch dimension
        (KIND.ITEM_SHAPE_FLATTEN, [3, 2, 1, 2, 4, 2, 4, 2]),
    ],
)
@pytest.mark.parametrize("datatype", [INT32, FP32])
def test_each_kind_tells_what_it_should(kind: BatchInputKind, expected: list[object], datatype: Datatype) -> None:
    made = batch_input(kind, SHAPES, datatype, batching=True)
    assert made.dtype == datatype.numpy
    assert made.tolist() == expected


def test_without_a_batch_dimension_the_whole_shape_is_the_item_s() -> None:
    assert batch_input(KIND.ITEM_SHAPE, [(3, 2)], INT32, batching=False).tolist() == [[3, 2]]


def test_a_count_that_the_datatype_cannot_tell_exactly_is_refused() -> None:
    exact = [(1, 2**24)]
    assert batch_input(KIND.ELEMENT_COUNT, exact, FP32, batching=True).tolist() == [2**24]
    with pytest.raises(InvalidArgument, match="33554433 elements, which TYPE_FP32 cannot tell exactly"):
        batch_input(KIND.ACCUMULATED_ELEMENT_COUNT, [*exact, (1, 2**24 + 1)], FP32, batching=True)
    with pytest.raises(InvalidArgument, match="TYPE_INT32"):
        batch_input(KIND.ELEMENT_COUNT, [(1, 2**31)], INT32, batching=True)


def test_elements_come_end_to_end_and_what_is_not_ragged_row_by_row() -> None:
    other = 'input [ { name: "w" data_type: TYPE_FP32 dims: [ 2 ] } ]'
    form = form_of(onnx_ragged.config(onnx_ragged.SUMS + other))
    requests = [{**row(1, 2), "w": np.zeros((1, 2))}, {**row(3), "w": np.ones((1, 2))}]
    inputs = form.gathered(requests)
    assert inputs["x"].tolist() == [1, 2, 3]
    assert inputs["w"].tolist() == [[0, 0], [1, 1]]
    assert inputs["ends"].tolist() == [0, 2, 3]


def test_one_request_alone_is_flat_too() -> None:
    inputs = form_of(onnx_ragged.config(onnx_ragged.SUMS)).gathered([row(1, 2)])
    assert (inputs["x"].tolist(), inputs["ends"].tolist()) == ([1, 2], [0, 2])


def test_strings_are_put_end_to_end_as_well() -> None:
    text = onnx_ragged.config(onnx_ragged.SUMS.replace("TYPE_FP32 dims: [ -1 ]", "TYPE_STRING dims: [ -1 ]"))
    words = [{"x": np.array([[b"a", b"\xff"]], object)}, {"x": np.array([[b""]], object)}]
    assert form_of(text).gathered(words)["x"].tolist() == [b"a", b"\xff", b""]


@given(st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=6))
def test_what_is_scattered_comes_back_to_its_request_in_its_shape(contents: list[list[int]]) -> None:
    form = form_of(onnx_ragged.config(onnx_ragged.DOUBLED))
    requests = [row(*content) for content in contents]
    flat = form.gathered(requests)["x"]
    counts = np.array([[len(content)] for content in contents], np.float32)
    answers = form.dealt([2 * flat, counts], ["y", "count"], requests, [1] * len(requests))
    for (doubled, count), content in zip(answers, contents, strict=True):
        assert doubled.tolist() == [[2 * value for value in content]]
        assert count.tolist() == [[len(content)]]


def test_requests_of_several_rows_get_their_rows() -> None:
    form = form_of(onnx_ragged.config(onnx_ragged.SUMS))
    requests = [{"x": np.zeros((2, 3))}, {"x": np.zeros((1, 5))}]
    answers = form.dealt([np.arange(3).reshape(3, 1)], ["sum"], requests, [2, 1])
    assert [answer[0].tolist() for answer in answers] == [[[0], [1]], [[2]]]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([np.zeros(4), np.zeros((2, 1))], "output 'y' has 4 elements for a batch whose requests call for 3"),
        ([np.zeros(3), np.zeros((3, 1))], r"output 'count' has shape \[3, 1\] for a ragged batch of 2 rows"),
        ([np.zeros(3), np.array(1.0)], r"output 'count' has shape \[\] for a ragged batch of 2 rows"),
    ],
)
def test_an_answer_that_does_not_fit_the_requests_is_the_model_s_fault(outputs: Sequence[Array], said: str) -> None:
    form = form_of(onnx_ragged.config(onnx_ragged.DOUBLED))
    with pytest.raises(Internal, match=said):
        form.dealt(outputs, ["y", "count"], [row(1, 2), row(3)], [1, 1])


def test_a_model_without_any_of_it_has_rows() -> None:
    config = parse_text(onnx_ragged.config(onnx_ragged.SUMS), "m")
    plain = replace(config, inputs=(replace(config.inputs[0], ragged=False),), batch_inputs=())
    assert RaggedForm.of(plain) is None
