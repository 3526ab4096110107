"""The parameters that say where in shared memory a tensor is: the same for JSON and for gRPC, so read here for both."""

from collections.abc import Mapping
from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.protocol.json_fields import text_member, whole_number_member

_REGION = "shared_memory_region"
_OFFSET = "shared_memory_offset"
_SIZE = "shared_memory_byte_size"

SHARED_MEMORY_KEYS = (_REGION, _OFFSET, _SIZE)


def shared_memory_slice(parameters: Mapping[str, Any], owner: str) -> SharedMemorySlice | None:
    """Where the tensor called ``owner`` in messages is, by its parameters; None when they name no region.

    Raises InvalidArgument for values of another type or out of range, and for an offset or a size without a region.
    """
    if _REGION not in parameters:
        for key in (_OFFSET, _SIZE):
            if key in parameters:
                raise InvalidArgument(f"{owner} has the parameter '{key}', but no '{_REGION}' that it belongs to")
        return None
    region = text_member(parameters, _REGION, owner)
    if _SIZE not in parameters:
        raise InvalidArgument(f"{owner} has the parameter '{_REGION}', which needs '{_SIZE}' beside it")
    offset = whole_number_member(parameters, _OFFSET, owner) if _OFFSET in parameters else 0
    return SharedMemorySlice(region, offset, whole_number_member(parameters, _SIZE, owner))


def refuse_classes(owner: str) -> InvalidArgument:
    """The refusal of an output that is wanted both as classes and in shared memory."""
    return InvalidArgument(
        f"{owner} can't set both '{_REGION}' and 'classification': classes are sent in the response only"
    )
