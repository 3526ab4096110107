"""Answers kept in memory, the least recently used first to go. Lives on the event loop."""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ortolan.inference.datatypes import BYTES
from ortolan.inference.request import InferenceRequest, Tensor
from ortolan.inference.tensor_bytes import element_bytes

# What an answer takes beside its elements, roughly: key, records, array headers.
_ENTRY_BYTES = 512
_TENSOR_BYTES = 256
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Whose answer, and to what. ``version`` is a loaded version's own identity: once it is replaced, none has it."""

    version: object
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    outputs: tuple[Tensor, ...]
    size_bytes: int


class ResponseCache:
    """The answers of all versions that keep theirs, in ``max_bytes`` together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: CacheKey) -> tuple[Tensor, ...] | None:
        """The outputs kept for ``key``; None where there are none. Nothing may write to them."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.outputs

    def keep(self, key: CacheKey, outputs: Sequence[Tensor]) -> None:
        """Keep copies of ``outputs``, in place of what was used least recently. What is larger than all is not kept."""
        size = _ENTRY_BYTES + sum(map(_size_bytes, outputs))
        if size > self.max_bytes or key in self._entries:
            return
        while self.size_bytes + size > self.max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.size_bytes -= oldest.size_bytes
        self._entries[key] = _Entry(tuple(map(_own, outputs)), size)
        self.size_bytes += size

    def forget(self, version: object) -> None:
        """Let go of every answer of ``version``."""
        for key in [key for key in self._entries if key.version is version]:
            self.size_bytes -= self._entries.pop(key).size_bytes


def digest_of(request: InferenceRequest) -> bytes:
    """What tells the question of ``request`` from every other that its version can be asked.

    The inputs by name, each with its datatype, shape and elements, and the outputs that are asked for, in their order.
    Triton's key has neither shapes and datatypes nor the outputs. Every part has its length before it, so that no two
    questions give the same bytes. Takes about 1 ns a byte.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(repr([(output.name, output.class_count) for output in request.outputs]).encode())
    for tensor in sorted(request.inputs, key=lambda tensor: tensor.name):
        data = element_bytes(tensor)
        digest.update(repr((tensor.name, tensor.datatype.name, tensor.shape, len(data))).encode())
        digest.update(data)
    return digest.digest()


def size_of(request: InferenceRequest) -> int:
    """The bytes that ``digest_of`` reads, roughly."""
    return sum(map(_size_bytes, request.inputs))


def _size_bytes(tensor: Tensor) -> int:
    array = tensor.array
    if tensor.datatype is not BYTES:
        return _TENSOR_BYTES + array.nbytes
    return _TENSOR_BYTES + array.nbytes + sum(map(sys.getsizeof, array.reshape(-1).tolist()))


def _own(tensor: Tensor) -> Tensor:
    """The tensor with an array of its own: what it is a view of would stay in memory with it, and might change."""
    array = tensor.array.copy()
    array.flags.writeable = False
    return replace(tensor, array=array)
