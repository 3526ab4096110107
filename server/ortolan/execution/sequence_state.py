"""Implicit state: what a model keeps of a sequence between its requests. Pure but for reading initial states.

The graph is a function; the server feeds back to it, under the state's input name, what it gave under the output name
the last time. Arrays have the graph's shapes, with one row where the model has a batch dimension.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BYTES, Array
from ortolan.inference.tensor_bytes import array_from_bytes
from ortolan.repository.private_files import FileRefused, read_inside
from ortolan.repository.sequence_config import InitialState, SequenceState

State = Mapping[str, Array]

DIRECTORY = "initial_state"


def initial_states(states: Iterable[SequenceState], batching: bool, model_directory: Path) -> State:
    """What each state is when a sequence starts. Raises InvalidArgument, naming the state, for files that do not fit.

    Without an ``initial_state`` it is zeros; a size that is left open is 1 then, as in Triton.
    """
    found: dict[str, Array] = {}
    for state in states:
        initial = state.initial or InitialState("", state.datatype, tuple(abs(size) for size in state.dims))
        array = _read(state, initial, model_directory) if initial.file else _zeros(initial)
        found[state.input_name] = array[np.newaxis] if batching else array
    return found


def next_state(states: Iterable[SequenceState], outputs: Mapping[str, Array], row: int | None) -> State:
    """What is kept of the outputs of one run, by input name: of one ``row``, or of all where there are no rows.

    A row is copied, so that it does not keep the memory of the whole batch.
    """
    return {
        state.input_name: outputs[state.output_name]
        if row is None
        else outputs[state.output_name][row : row + 1].copy()
        for state in states
    }


def state_shapes(states: Sequence[SequenceState], state: State) -> object:
    """Equal for states that can be rows of one batch."""
    return tuple(state[each.input_name].shape for each in states if -1 in each.dims)


def _zeros(initial: InitialState) -> Array:
    if initial.datatype is BYTES:
        texts = np.empty(initial.dims, dtype=object)
        texts[...] = b""
        return texts
    return np.zeros(initial.dims, initial.datatype.numpy)


def _read(state: SequenceState, initial: InitialState, model_directory: Path) -> Array:
    place = f"the initial state '{initial.name}' of '{state.input_name}'"
    try:
        content = read_inside(model_directory / DIRECTORY / initial.file, model_directory)
    except FileRefused as error:
        raise InvalidArgument(
            f"{place}: the file '{initial.file}' in the model's directory {DIRECTORY} {error}"
        ) from error
    count = int(np.prod(initial.dims))
    expected = count * initial.datatype.size_bytes
    if initial.datatype is not BYTES and len(content) != expected:
        raise InvalidArgument(f"{place}: file '{initial.file}' has {len(content)} bytes, expected {expected}")
    return array_from_bytes(content, 0, len(content), initial.datatype, initial.dims, count, initial.name)
