"""Responses over gRPC that differ in the elements of their outputs: what stands around these is written once."""

from collections.abc import Sequence

from ortolan.inference.datatypes import Array
from ortolan.inference.request import InferenceResponse
from ortolan.inference.tensor_bytes import number_bytes
from ortolan.protocol.protobuf_codec import response_pieces, serialized
from ortolan.protocol.serialized import Raw, Serialized


class MessageFrame:
    """A serialized ModelInferResponse without its elements. For outputs of the same shapes, none of BYTES."""

    __slots__ = ("_around", "_size")

    def __init__(self, response: InferenceResponse) -> None:
        """``response`` has all of its outputs in itself. Raises InvalidArgument for one that is too large."""
        pieces, self._size = response_pieces(response)
        # What comes first, then for each output how many bytes it has, and these.
        self._around = [bytes(piece) for piece in pieces[1::2]]
        self._around[0] = bytes(pieces[0]) + self._around[0]

    @property
    def text_bytes(self) -> int:
        """What it takes of memory, roughly."""
        return sum(map(len, self._around))

    def encoded(self, outputs: Sequence[Array]) -> Serialized:
        """The response with the elements of ``outputs``, which are in the order of its own."""
        if len(outputs) == 1:
            return serialized((self._around[0], number_bytes(outputs[0])), self._size)
        pieces: list[Raw] = []
        for head, array in zip(self._around, outputs, strict=True):
            pieces += (head, number_bytes(array))
        return serialized(pieces, self._size)
