"""``ModelSequenceBatching`` messages ⇄ SequenceBatching. Pure."""

from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BOOL, BY_CONFIG_NUMBER, FP32, INT32, Datatype
from ortolan.repository.sequence_config import (
    ControlKind,
    DirectStrategy,
    InitialState,
    OldestStrategy,
    SequenceBatching,
    SequenceControl,
    SequenceState,
)

_TRUTHS = (("int32_false_true", INT32), ("fp32_false_true", FP32), ("bool_false_true", BOOL))


def read(message: Any, where: str) -> SequenceBatching:
    """The block ``message``; ``where`` begins the text of an InvalidArgument about what it lacks or has too much."""
    return SequenceBatching(
        max_idle_us=message.max_sequence_idle_microseconds,
        controls=tuple(_control(each, where) for each in message.control_input),
        states=tuple(_state(each, where) for each in message.state),
        strategy=_strategy(message),
    )


def write(message: Any, batching: SequenceBatching) -> None:
    """Write ``batching`` over the block ``message``; a strategy that the file left out is written as direct."""
    message.Clear()
    message.max_sequence_idle_microseconds = batching.max_idle_us
    for control in batching.controls:
        _write_control(message.control_input.add(name=control.input_name).control.add(), control)
    for state in batching.states:
        _write_state(message.state.add(), state)
    strategy = batching.strategy
    if isinstance(strategy, DirectStrategy):
        message.direct.SetInParent()
        message.direct.max_queue_delay_microseconds = strategy.max_queue_delay_us
        message.direct.minimum_slot_utilization = strategy.minimum_slot_utilization
    else:
        message.oldest.SetInParent()
        message.oldest.max_candidate_sequences = strategy.max_candidate_sequences
        message.oldest.preferred_batch_size[:] = strategy.preferred_batch_sizes
        message.oldest.max_queue_delay_microseconds = strategy.max_queue_delay_us
        message.oldest.preserve_ordering = strategy.preserve_ordering


def _control(message: Any, where: str) -> SequenceControl:
    place = f"{where}: sequence_batching.control_input '{message.name}'"
    if len(message.control) != 1:
        raise InvalidArgument(f"{place} must specify exactly one control, got {len(message.control)}")
    control = message.control[0]
    try:
        kind = ControlKind(control.kind)
    except ValueError as error:
        known = ", ".join(each.config_name for each in ControlKind)
        raise InvalidArgument(f"{place}: control kind {control.kind} is unknown: write one of {known}") from error
    given = [(getattr(control, field), datatype) for field, datatype in _TRUTHS if getattr(control, field)]
    if kind is ControlKind.CORRID:
        if given:
            raise InvalidArgument(f"{place}: {kind.config_name} has a data_type, and no *_false_true values")
        return SequenceControl(message.name, kind, _datatype(control.data_type, place))
    if control.data_type:
        raise InvalidArgument(f"{place}: {kind.config_name} has no data_type: its *_false_true values say which it is")
    if len(given) != 1 or len(given[0][0]) != 2:
        raise InvalidArgument(
            f"{place}: {kind.config_name} must specify one of int32_false_true, fp32_false_true and bool_false_true, "
            "with exactly two values: for false and for true"
        )
    (false, true), datatype = given[0]
    return SequenceControl(message.name, kind, datatype, (false, true))


def _state(message: Any, where: str) -> SequenceState:
    place = f"{where}: sequence_batching.state '{message.input_name}'"
    if len(message.initial_state) > 1:
        raise InvalidArgument(f"{place} must specify at most one initial_state, got {len(message.initial_state)}")
    return SequenceState(
        input_name=message.input_name,
        output_name=message.output_name,
        datatype=_datatype(message.data_type, place),
        dims=tuple(message.dims),
        initial=_initial_state(message.initial_state[0], place) if message.initial_state else None,
        same_buffer=message.use_same_buffer_for_input_output,
    )


def _initial_state(message: Any, place: str) -> InitialState:
    choice = message.WhichOneof("state_data")
    if choice is None or (choice == "zero_data" and not message.zero_data):
        raise InvalidArgument(f"{place}: initial_state must specify zero_data: true, or a data_file")
    if choice == "data_file" and not message.data_file:
        raise InvalidArgument(f"{place}: data_file must name a file in the model's directory initial_state")
    datatype = _datatype(message.data_type, f"{place}: initial_state")
    return InitialState(message.name, datatype, tuple(message.dims), message.data_file)


def _strategy(message: Any) -> DirectStrategy | OldestStrategy:
    if message.WhichOneof("strategy_choice") == "oldest":
        oldest = message.oldest
        return OldestStrategy(
            oldest.max_candidate_sequences,
            tuple(oldest.preferred_batch_size),
            oldest.max_queue_delay_microseconds,
            oldest.preserve_ordering,
        )
    return DirectStrategy(message.direct.max_queue_delay_microseconds, message.direct.minimum_slot_utilization)


def _datatype(number: int, place: str) -> Datatype:
    datatype = BY_CONFIG_NUMBER.get(number)
    if datatype is None:
        raise InvalidArgument(f"{place} must specify 'data_type'")
    return datatype


def _write_control(message: Any, control: SequenceControl) -> None:
    message.kind = control.kind.value
    if control.kind is ControlKind.CORRID:
        message.data_type = control.datatype.config_number
        return
    field = next(field for field, datatype in _TRUTHS if datatype is control.datatype)
    getattr(message, field)[:] = control.false_true


def _write_state(message: Any, state: SequenceState) -> None:
    message.input_name = state.input_name
    message.output_name = state.output_name
    message.data_type = state.datatype.config_number
    message.dims[:] = state.dims
    message.use_same_buffer_for_input_output = state.same_buffer
    if state.initial is None:
        return
    initial = message.initial_state.add(name=state.initial.name, dims=state.initial.dims)
    initial.data_type = state.initial.datatype.config_number
    if state.initial.file:
        initial.data_file = state.initial.file
    else:
        initial.zero_data = True
