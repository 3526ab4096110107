import numpy as np
import pytest

from ortolan.errors import Internal
from ortolan.execution.graph_request import GraphRequest, SequenceTerms
from ortolan.execution.sequence_batch import Member, composed, divided
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.sequence_policy import LaneRule
from ortolan.inference.datatypes import BYTES, FP32, INT32
from ortolan.repository.sequence_config import ControlKind, SequenceControl, SequenceState

READY = SequenceControl("READY", ControlKind.READY, INT32)
SUM = SequenceState("sum_in", "sum_out", FP32, (1,))
PLAN = SequencePlan(1, LaneRule(4), True, 10**9, (READY,), (SUM,))


def member(value: float, kept: float, *outputs: str) -> Member:
    state = {"sum_in": np.array([[kept]], np.float32)}
    asked = GraphRequest({"x": np.array([[value, value]], np.float32)}, outputs or ("y",), 1)
    return Member(asked, SequenceTerms(1), state)


def test_each_sequence_is_in_its_row_and_rows_without_a_request_are_zeros() -> None:
    formed = composed({1: member(5, 7), 3: member(6, 8, "z")}, 4, PLAN)
    assert {name: array.tolist() for name, array in formed.inputs.items()} == {
        "x": [[0, 0], [5, 5], [0, 0], [6, 6]],
        "sum_in": [[0], [7], [0], [8]],
        "READY": [[0], [1], [0], [1]],
    }
    assert formed.output_names == ("y", "z", "sum_out")
    assert formed.rows == 4


def test_one_row_is_taken_as_it_is() -> None:
    one = member(5, 7)
    formed = composed({0: one}, 1, PLAN)
    assert formed.inputs["x"] is one.asked.inputs["x"]


def test_a_row_of_texts_without_a_request_has_empty_ones() -> None:
    texts = np.array([[b"a"]], object)
    asked = Member(GraphRequest({"x": texts}, ("y",), 1), SequenceTerms(1), {})
    formed = composed({1: asked}, 2, SequencePlan(1, LaneRule(2), True, 1))
    assert formed.inputs["x"].tolist() == [[b""], [b"a"]]
    assert BYTES.numpy == formed.inputs["x"].dtype


def test_each_member_gets_its_rows_of_what_it_asked_for() -> None:
    members = {0: member(0, 0, "z", "y"), 2: member(0, 0, "y")}
    outputs = [np.array([[1.0], [2.0], [3.0]]), np.array([[4.0], [5.0], [6.0]]), np.array([[7.0], [8.0], [9.0]])]
    parts = divided(outputs, ("y", "z", "sum_out"), members, 3, PLAN)
    assert [output.tolist() for output in parts[0].outputs] == [[[4.0]], [[1.0]]]
    assert [output.tolist() for output in parts[2].outputs] == [[[3.0]]]
    assert parts[2].state["sum_in"].tolist() == [[9.0]]


def test_an_output_without_rows_is_an_error() -> None:
    with pytest.raises(Internal, match="does not keep the batch dimension"):
        divided([np.zeros(2), np.zeros(3)], ("y", "sum_out"), {0: member(0, 0)}, 3, PLAN)


def test_states_of_other_sizes_are_of_another_shape() -> None:
    plan = SequencePlan(1, LaneRule(1), True, 1, (), (SequenceState("sum_in", "sum_out", FP32, (-1,)),))
    longer = Member(member(0, 0).asked, SequenceTerms(1), {"sum_in": np.zeros((1, 2), np.float32)})
    assert composed({0: member(0, 0)}, 1, plan).shapes != composed({0: longer}, 1, plan).shapes
