"""The control tensors of a batch of sequences: what the model is told of each row. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import SequenceId, SequenceTerms
from ortolan.inference.datatypes import BYTES, Array
from ortolan.repository.sequence_config import ControlKind, SequenceControl


@dataclass(frozen=True, slots=True)
class RowControls:
    """What is true of one row."""

    ready: bool
    start: bool
    end: bool
    id: SequenceId

    @staticmethod
    def of(terms: SequenceTerms) -> "RowControls":
        return RowControls(True, terms.start, terms.end, terms.id)


EMPTY_ROW = RowControls(ready=False, start=False, end=False, id=0)
"""A row whose sequence has no request in this batch."""


def control_inputs(
    controls: Iterable[SequenceControl], rows: Sequence[RowControls], batching: bool
) -> dict[str, Array]:
    """One tensor for each control, of shape [rows, 1]; [1] without a batch dimension."""
    shape = (len(rows), 1) if batching else (1,)
    return {control.input_name: _elements(control, rows).reshape(shape) for control in controls}


def check_id(controls: Iterable[SequenceControl], sequence_id: SequenceId) -> None:
    """Raises InvalidArgument for an id that the model's CORRID input cannot hold."""
    for control in controls:
        if control.kind is not ControlKind.CORRID or control.datatype is BYTES:
            continue
        if isinstance(sequence_id, str):
            raise InvalidArgument(
                f"the model takes sequence ids of type {control.datatype.name}, so 'sequence_id' must be a whole "
                "number, got a text"
            )
        largest = int(np.iinfo(control.datatype.numpy.str).max)
        if sequence_id > largest:
            raise InvalidArgument(
                f"the model takes sequence ids of type {control.datatype.name}, so 'sequence_id' must be at most "
                f"{largest}, got {sequence_id}"
            )


def _elements(control: SequenceControl, rows: Sequence[RowControls]) -> Array:
    if control.kind is ControlKind.CORRID:
        return _ids(control, rows)
    false, true = control.false_true
    values = [true if _holds(control.kind, row) else false for row in rows]
    return np.array(values, control.datatype.numpy)


def _holds(kind: ControlKind, row: RowControls) -> bool:
    if kind is ControlKind.READY:
        return row.ready
    return row.start if kind is ControlKind.START else row.end


def _ids(control: SequenceControl, rows: Sequence[RowControls]) -> Array:
    if control.datatype is not BYTES:
        return np.array([row.id for row in rows], control.datatype.numpy)
    elements = np.empty(len(rows), dtype=object)
    # A whole number is told to a model of texts by its digits; a row without a sequence has no id.
    elements[:] = [str(row.id).encode() if row.ready else b"" for row in rows]
    return elements
