"""``BatchInput`` and ``BatchOutput`` messages ⇄ our words. Pure."""

from collections.abc import Iterable
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import BY_CONFIG_NUMBER, FP32, INT32, Datatype
from ortolan.repository.ragged_config import BatchInput, BatchInputKind, BatchOutput

_SCATTER = 0
_SCATTER_NAME = "BATCH_SCATTER_WITH_INPUT_SHAPE"


def read_inputs(messages: Iterable[Any], where: str) -> tuple[BatchInput, ...]:
    """The blocks ``batch_input``; ``where`` begins the text of an InvalidArgument about what one lacks."""
    return tuple(_batch_input(message, f"{where}: batch_input") for message in messages)


def read_outputs(messages: Iterable[Any], where: str) -> tuple[BatchOutput, ...]:
    """The blocks ``batch_output``; ``where`` as above."""
    return tuple(_batch_output(message, f"{where}: batch_output") for message in messages)


def write_inputs(messages: Any, batch_inputs: Iterable[BatchInput]) -> None:
    """Write ``batch_inputs`` over the blocks ``messages``."""
    del messages[:]
    for each in batch_inputs:
        messages.add(
            kind=each.kind.value,
            target_name=each.targets,
            data_type=each.datatype.config_number,
            source_input=[each.source],
        )


def write_outputs(messages: Any, batch_outputs: Iterable[BatchOutput]) -> None:
    """Write ``batch_outputs`` over the blocks ``messages``."""
    del messages[:]
    for each in batch_outputs:
        messages.add(kind=_SCATTER, target_name=each.targets, source_input=[each.source])


def _batch_input(message: Any, where: str) -> BatchInput:
    try:
        kind = BatchInputKind(message.kind)
    except ValueError as error:
        known = ", ".join(each.config_name for each in BatchInputKind)
        raise InvalidArgument(f"{where} kind {message.kind} is unknown: write one of {known}") from error
    targets, source = _names(message, where, f"batch input kind '{kind.config_name}'")
    return BatchInput(kind, targets, _datatype(message.data_type, where, targets), source)


def _batch_output(message: Any, where: str) -> BatchOutput:
    if message.kind != _SCATTER:
        raise InvalidArgument(f"{where} kind {message.kind} is unknown: write {_SCATTER_NAME}")
    return BatchOutput(*_names(message, where, f"batch output kind '{_SCATTER_NAME}'"))


def _names(message: Any, where: str, what: str) -> tuple[tuple[str, ...], str]:
    targets = tuple(message.target_name)
    if not targets or not all(targets):
        raise InvalidArgument(f"{where} must specify target_name: the tensor of the model that it is for")
    if len(message.source_input) != 1:
        count = len(message.source_input)
        raise InvalidArgument(f"{where} '{targets[0]}': {what} expects 1 source input, got {count}")
    return targets, str(message.source_input[0])


def _datatype(number: int, where: str, targets: tuple[str, ...]) -> Datatype:
    datatype = BY_CONFIG_NUMBER.get(number)
    if datatype is not INT32 and datatype is not FP32:
        got = datatype.config_name if datatype else "none" if number == 0 else number
        raise InvalidArgument(
            f"{where} '{targets[0]}': batch input data type must be TYPE_INT32 or TYPE_FP32, got {got}"
        )
    return datatype
