import numpy as np
import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import SequenceId, SequenceTerms
from ortolan.execution.sequence_controls import EMPTY_ROW, RowControls, check_id, control_inputs
from ortolan.inference.datatypes import BOOL, BYTES, FP32, INT32, INT64, UINT32, UINT64, Datatype
from ortolan.repository.sequence_config import ControlKind, SequenceControl

CONTROLS = (
    SequenceControl("s", ControlKind.START, FP32, (0, 1)),
    SequenceControl("r", ControlKind.READY, INT32, (-1, 5)),
    SequenceControl("e", ControlKind.END, BOOL, (False, True)),
    SequenceControl("c", ControlKind.CORRID, UINT64),
)
ROWS = [
    RowControls.of(SequenceTerms(7, start=True)),
    EMPTY_ROW,
    RowControls.of(SequenceTerms(2**64 - 1, end=True)),
]


def test_each_row_says_what_is_true_of_it() -> None:
    tensors = control_inputs(CONTROLS, ROWS, batching=True)
    assert {name: (array.dtype.str, array.tolist()) for name, array in tensors.items()} == {
        "s": ("<f4", [[1.0], [0.0], [0.0]]),
        "r": ("<i4", [[5], [-1], [5]]),
        "e": ("|b1", [[False], [False], [True]]),
        "c": ("<u8", [[7], [0], [2**64 - 1]]),
    }


def test_without_a_batch_dimension_a_control_is_one_element() -> None:
    assert {array.shape for array in control_inputs(CONTROLS, ROWS[:1], batching=False).values()} == {(1,)}


def test_text_ids_are_bytes_and_a_row_without_a_sequence_has_none() -> None:
    control = SequenceControl("c", ControlKind.CORRID, BYTES)
    rows = [RowControls.of(SequenceTerms("käse")), EMPTY_ROW, RowControls.of(SequenceTerms(12))]
    array = control_inputs([control], rows, batching=True)["c"]
    assert array.tolist() == [["käse".encode()], [b""], [b"12"]]
    assert array.dtype == np.dtype(object)


@pytest.mark.parametrize(
    ("datatype", "sequence_id", "said"),
    [
        (UINT64, 2**64 - 1, ""),
        (INT64, 2**63 - 1, ""),
        (INT64, 2**63, "at most 9223372036854775807, got 9223372036854775808"),
        (UINT32, 2**32, "at most 4294967295"),
        (INT32, 2**31, "at most 2147483647"),
        (INT64, "seven", "must be a whole number, got a text"),
        (BYTES, "seven", ""),
        (BYTES, 7, ""),
    ],
)
def test_an_id_fits_the_models_input(datatype: Datatype, sequence_id: SequenceId, said: str) -> None:
    controls = [SequenceControl("c", ControlKind.CORRID, datatype)]
    if not said:
        check_id(controls, sequence_id)
        return
    with pytest.raises(InvalidArgument) as refused:
        check_id(controls, sequence_id)
    assert said in refused.value.message
