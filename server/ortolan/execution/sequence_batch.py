"""Requests of sequences → one request to the model, its answer → theirs. Pure numpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ortolan.errors import Internal
from ortolan.execution.graph_request import GraphRequest, SequenceTerms
from ortolan.execution.sequence_controls import EMPTY_ROW, RowControls, control_inputs
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.sequence_state import State, next_state, state_shapes
from ortolan.inference.datatypes import Array


@dataclass(frozen=True, slots=True)
class Member:
    """One request of a batch, and what the model has kept of its sequence before it."""

    asked: GraphRequest
    terms: SequenceTerms
    state: State


@dataclass(frozen=True, slots=True)
class Part:
    """What one request gets of a batch's answer, and what is kept of its sequence after it."""

    outputs: list[Array]
    state: State


def composed(members: Mapping[int, Member], span: int, plan: SequencePlan) -> GraphRequest:
    """The batch of ``members``, by row, over ``span`` rows: rows between them are zeros and told not to be ready.

    All members have equal ``shapes`` and equal sizes of states.
    """
    controls = [RowControls.of(members[row].terms) if row in members else EMPTY_ROW for row in range(span)]
    first = next(iter(members.values()))
    inputs = dict(_stacked({row: member.asked.inputs for row, member in members.items()}, span))
    inputs |= _stacked({row: member.state for row, member in members.items()}, span)
    inputs |= control_inputs(plan.controls, controls, plan.batching)
    wanted = [name for member in members.values() for name in member.asked.output_names]
    names = tuple(dict.fromkeys((*wanted, *plan.state_outputs)))
    return GraphRequest(inputs, names, span, (first.asked.shapes, state_shapes(plan.states, first.state)))


def divided(
    outputs: Sequence[Array], names: Sequence[str], members: Mapping[int, Member], span: int, plan: SequencePlan
) -> dict[int, Part]:
    """Each member's part, by row. Raises Internal when an output does not have a row for each of the batch's."""
    by_name = dict(zip(names, outputs, strict=True))
    if not plan.batching:
        member = members[0]
        return {0: Part([by_name[name] for name in member.asked.output_names], next_state(plan.states, by_name, None))}
    for name, output in by_name.items():
        if not output.shape or output.shape[0] != span:
            raise Internal(
                f"output '{name}' has shape {list(output.shape)} for a batch of {span} rows: it does not keep the "
                "batch dimension, so that it cannot be told whose rows are whose"
            )
    return {
        row: Part(
            [by_name[name][row : row + 1] for name in member.asked.output_names],
            next_state(plan.states, by_name, row),
        )
        for row, member in members.items()
    }


def _stacked(rows: Mapping[int, Mapping[str, Array]], span: int) -> Mapping[str, Array]:
    """The tensors of all rows, joined along their first dimension; rows that are not there are zeros."""
    first = next(iter(rows.values()))
    if span == 1:
        return first
    return {name: np.concatenate(_rows_of(name, rows, span)) for name in first}


def _rows_of(name: str, rows: Mapping[int, Mapping[str, Array]], span: int) -> list[Array]:
    empty = _zeros_like(next(iter(rows.values()))[name]) if len(rows) < span else None
    return [rows[row][name] if row in rows else empty for row in range(span)]  # type: ignore[misc]


def _zeros_like(array: Array) -> Array:
    if not array.dtype.hasobject:
        return np.zeros_like(array)
    texts = np.empty(array.shape, dtype=object)
    texts[...] = b""
    return texts
