"""The rules that a ``sequence_batching`` block obeys by itself, and those that tie it to the model's graph. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BYTES, INT32, INT64, UINT32, UINT64, Datatype
from ortolan.repository.file_names import stays_inside
from ortolan.repository.graph_agreement import open_sizes, shape_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.sequence_config import (
    ControlKind,
    DirectStrategy,
    InitialState,
    SequenceBatching,
    SequenceControl,
    SequenceState,
)

CORRID_DATATYPES = (UINT64, INT64, UINT32, INT32, BYTES)
MAX_CANDIDATES = 1_000_000
MAX_DELAY_US = 3_600 * 1_000_000
MAX_IDLE_US = 366 * 24 * 3_600 * 1_000_000
MAX_STATE_ELEMENTS = 2**31


def validate(config: ModelConfig) -> None:
    """Raises InvalidArgument for the first rule that the block of ``config`` breaks, if it has one."""
    batching = config.sequence_batching
    if batching is None:
        return
    where = f"model '{config.name}': sequence_batching"
    _require(
        0 <= batching.max_idle_us <= MAX_IDLE_US,
        f"{where}.max_sequence_idle_microseconds must be at most {MAX_IDLE_US} (a year), got {batching.max_idle_us}",
    )
    _check_names(where, config, batching)
    for control in batching.controls:
        _require(
            control.kind is not ControlKind.CORRID or control.datatype in CORRID_DATATYPES,
            f"{where}.control_input '{control.input_name}': {control.kind.config_name} must have one of the data types "
            f"{_listed(datatype.config_name for datatype in CORRID_DATATYPES)}; got {control.datatype.config_name}",
        )
    for state in batching.states:
        _check_state(f"{where}.state '{state.input_name}'", state)
    _check_strategy(where, batching, config.max_batch_size)


def _check_names(where: str, config: ModelConfig, batching: SequenceBatching) -> None:
    _require(all(control.input_name for control in batching.controls), f"{where}: every control_input needs a name")
    kinds = Counter(control.kind for control in batching.controls)
    twice = next((kind for kind, count in kinds.items() if count > 1), None)
    _require(twice is None, f"{where} specifies more than one tensor for {twice.config_name if twice else ''}")
    named = all(state.input_name and state.output_name for state in batching.states)
    _require(named, f"{where}: every state needs an input_name and an output_name")
    name = _repeated([*batching.input_names, *(spec.name for spec in config.inputs)])
    _require(
        name is None,
        f"{where}: '{name}' must be one of an input, a control_input and a state's input_name, and only once; what "
        "the server fills is not declared under 'input'",
    )
    name = _repeated([state.output_name for state in batching.states])
    _require(name is None, f"{where}: '{name}' is the output_name of two states")


def _check_state(where: str, state: SequenceState) -> None:
    _check_dims(where, state.dims)
    initial = state.initial
    if initial is None:
        return
    _check_initial_state(f"{where}: initial_state", initial, state)


def _check_initial_state(where: str, initial: InitialState, state: SequenceState) -> None:
    _require(bool(initial.name), f"{where} must specify 'name'")
    _require(
        initial.datatype is state.datatype,
        f"{where} has data_type {initial.datatype.config_name}, but the state has {state.datatype.config_name}",
    )
    fits = len(initial.dims) == len(state.dims) and all(
        size > 0 and wanted in (-1, size) for size, wanted in zip(initial.dims, state.dims, strict=True)
    )
    _require(
        fits,
        f"{where} must have dims that are fully specified and fit the state's, {shape_text(state.dims)}; got "
        f"{shape_text(initial.dims)}",
    )
    elements = math.prod(initial.dims)
    _require(elements <= MAX_STATE_ELEMENTS, f"{where} has {elements} elements; at most {MAX_STATE_ELEMENTS} can be")
    _require(
        not initial.file or stays_inside(initial.file),
        f"{where}: data_file {initial.file!r} must be a relative name inside the model's directory initial_state",
    )


def _check_dims(where: str, dims: Sequence[int]) -> None:
    _require(bool(dims), f"{where} must specify 'dims', without the batch dimension")
    wrong = next((size for size in dims if size < 1 and size != -1), None)
    _require(wrong is None, f"{where}: dims must be positive, or -1 for any size; got {wrong}")
    elements = math.prod(size for size in dims if size != -1)
    _require(elements <= MAX_STATE_ELEMENTS, f"{where} has {elements} elements; at most {MAX_STATE_ELEMENTS} can be")


def _check_strategy(where: str, batching: SequenceBatching, max_batch_size: int) -> None:
    strategy = batching.strategy
    name = "direct" if isinstance(strategy, DirectStrategy) else "oldest"
    _require(
        0 <= strategy.max_queue_delay_us <= MAX_DELAY_US,
        f"{where}.{name}.max_queue_delay_microseconds must be at most {MAX_DELAY_US} (an hour), got "
        f"{strategy.max_queue_delay_us}",
    )
    if isinstance(strategy, DirectStrategy):
        utilization = strategy.minimum_slot_utilization
        _require(
            0 <= utilization <= 1,
            f"{where}.direct.minimum_slot_utilization must be between 0 and 1, got {utilization:g}",
        )
        return
    _require(
        0 <= strategy.max_candidate_sequences <= MAX_CANDIDATES,
        f"{where}.oldest.max_candidate_sequences must be between 1 and {MAX_CANDIDATES}, got "
        f"{strategy.max_candidate_sequences}",
    )
    wrong = next((size for size in strategy.preferred_batch_sizes if size < 1 or 0 < max_batch_size < size), None)
    _require(
        wrong is None,
        f"{where}.oldest.preferred_batch_size must be positive and at most max_batch_size {max_batch_size}, got "
        f"{wrong}",
    )


# -- the graph -----------------------------------------------------------------------------------------------------


def without_own_tensors(graph: GraphSignature, config: ModelConfig) -> GraphSignature:
    """What of ``graph`` is for clients: not what the server fills, and of the states' outputs those declared."""
    batching = config.sequence_batching
    if batching is None:
        return graph
    kept = {state.output_name for state in batching.states} - {spec.name for spec in config.outputs}
    return replace(
        graph,
        inputs=tuple(tensor for tensor in graph.inputs if tensor.name not in batching.input_names),
        outputs=tuple(tensor for tensor in graph.outputs if tensor.name not in kept),
    )


def check_agreement(config: ModelConfig, graph: GraphSignature) -> None:
    """Raises InvalidArgument when the controls and states of ``config``, complete, are not in the graph like that."""
    batching = config.sequence_batching
    if batching is None:
        return
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    where = f"unable to load model '{config.name}', sequence"
    rows = config.max_batch_size > 0
    for control in batching.controls:
        place = f"{where} control '{control.input_name}' for {control.kind.config_name}"
        _check_control(place, control, _found(place, control.input_name, "input", inputs), rows)
    for state in batching.states:
        for kind, name, tensors in (("input", state.input_name, inputs), ("output", state.output_name, outputs)):
            place = f"{where} state {kind} '{name}'"
            tensor = _found(place, name, kind, tensors)
            _check_datatype(place, state.datatype, tensor)
            _check_state_shape(place, state, tensor, rows)


def _found(place: str, name: str, kind: str, tensors: dict[str, GraphTensor]) -> GraphTensor:
    if name not in tensors:
        raise InvalidArgument(f"{place} is not an {kind} of the model; its {kind}s are {', '.join(tensors)}")
    return tensors[name]


def _check_control(place: str, control: SequenceControl, tensor: GraphTensor, rows: bool) -> None:
    _check_datatype(place, control.datatype, tensor)
    expected = (-1, 1) if rows else (1,)
    fits = tensor.shape is None or (
        len(tensor.shape) == len(expected)
        and all(size in (-1, wanted) for size, wanted in zip(tensor.shape, expected, strict=True))
    )
    _require(
        fits,
        f"{place}: in the model it has dims {shape_text(tensor.shape or ())} but dims {shape_text(expected)} "
        f"{'(a batch dimension, then [1]) are' if rows else 'are'} expected",
    )


def _check_datatype(place: str, datatype: Datatype, tensor: GraphTensor) -> None:
    _require(
        tensor.datatype is datatype,
        f"{place}: in the model it has data-type {tensor.datatype.config_name}, but the configuration says "
        f"{datatype.config_name}",
    )


def _check_state_shape(place: str, state: SequenceState, tensor: GraphTensor, rows: bool) -> None:
    if tensor.shape is None:
        return
    wanted = (-1, *state.dims) if rows else state.dims
    sizes = open_sizes(tensor.shape)
    fits = len(wanted) == len(sizes) and all(
        -1 in (mine, size) or mine == size for mine, size in zip(wanted, sizes, strict=True)
    )
    _require(
        fits,
        f"{place}: in the model it has dims {shape_text(sizes)}, but the configuration says {shape_text(wanted)}"
        f"{', the batch dimension counted' if rows else ''}",
    )
    _require(
        not rows or sizes[0] == -1,
        f"{place}: for the model to support batching its first dimension must be -1, but it has dims "
        f"{shape_text(sizes)}",
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidArgument(otherwise)


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
