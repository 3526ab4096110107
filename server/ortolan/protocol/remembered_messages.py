"""Requests over gRPC of which all but the elements came before, byte for byte."""

from typing import Generic, TypeVar

from ortolan.inference.request import InferenceRequest
from ortolan.protocol.protobuf_codec import decode_request, raw_tensor_at_end
from ortolan.protocol.remembered_inputs import RememberedInputs, remembered
from ortolan.protocol.serialized import Raw

_MOST = 256
_LONGEST_BYTES = 2048
# Messages of one size may begin in so many ways before the first of these is forgotten.
_MOST_OF_A_SIZE = 4

_T = TypeVar("_T")


class MessagesByHead(Generic[_T]):
    """What is known of messages whose one raw tensor ends them: their size and what stands before its elements decide
    all the rest. Holds at most ``_MOST`` of at most ``_LONGEST_BYTES``. For one thread."""

    def __init__(self) -> None:
        self._heads: dict[int, tuple[int, ...]] = {}
        """For each size of a message, where elements may begin."""
        self._known: dict[tuple[int, bytes], _T] = {}

    def find(self, data: Raw) -> _T | None:
        size = len(data)
        for start in self._heads.get(size, ()):
            known = self._known.get((size, bytes(data[:start])))
            if known is not None:
                return known
        return None

    def remember(self, data: Raw, start: int, known: _T) -> None:
        """Of messages as ``data``, whose elements begin at ``start``."""
        size = len(data)
        if len(self._known) >= _MOST:
            self._known.clear()
            self._heads.clear()
        starts = self._heads.get(size, ())
        if start not in starts:
            self._heads[size] = (start, *starts)[:_MOST_OF_A_SIZE]
        self._known[size, bytes(data[:start])] = known


class RememberedMessages:
    """``decode_request``, which lets protobuf read no message twice that differs only in one raw tensor's elements."""

    def __init__(self) -> None:
        self._known: MessagesByHead[RememberedInputs] = MessagesByHead()

    def decode(self, data: Raw) -> InferenceRequest:
        """As ``decode_request``, and raises as that does."""
        known = self._known.find(data)
        if known is not None:
            return known.of(data)
        request = decode_request(data)
        found = remembered_at_end(request, data)
        if found is not None:
            self._known.remember(data, found.begins[0], found)
        return request


def remembered_at_end(request: InferenceRequest, data: Raw) -> RememberedInputs | None:
    """``request``, which ``data`` said, to be applied to others; None unless its one raw tensor ends the message."""
    if len(request.inputs) != 1 or (found := remembered(request, data)) is None:
        return None
    start = len(data) - request.inputs[0].array.nbytes
    # Elements elsewhere are not the raw ones at the end.
    return found if start <= _LONGEST_BYTES and found.begins == (start,) else None


def may_be_remembered(data: Raw) -> bool:
    """Whether it is worth a look: one raw tensor of numbers at the end, and little before. Costs next to nothing.

    Raises InvalidArgument for what is no message.
    """
    described = raw_tensor_at_end(data, _LONGEST_BYTES)
    return described is not None and described not in ("BYTES", "BOOL")
