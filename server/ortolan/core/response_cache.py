"""Answers kept in memory, the least recently used first to go. Lives on the event loop."""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ortolan.inference.datatypes import BYTES, Array
from ortolan.inference.request import InferenceRequest, Tensor
from ortolan.inference.tensor_bytes import element_bytes

# What an answer takes beside its elements, roughly: key, records, array headers.
_ENTRY_BYTES = 512
_TENSOR_BYTES = 256
_DIGEST_BYTES = 32
# Of numbers so much is hashed or copied in about a millisecond; more than that would hold up the loop.
_SMALL_BYTES = 1 << 20
# A text costs as much as so many bytes for each byte of its address.
_TEXT_EFFORT = 8
# To let go of so many takes about a millisecond.
_FORGOTTEN_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Whose answer, and to what. ``version`` is a loaded version's own identity: once it is replaced, none has it."""

    version: object
    digest: bytes


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """Outputs that belong to nobody else, and what they take."""

    outputs: tuple[Tensor, ...]
    size_bytes: int


class ResponseCache:
    """The answers of all versions that keep theirs, in ``max_bytes`` together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._entries: OrderedDict[CacheKey, KeptAnswer] = OrderedDict()
        self._keys: dict[object, dict[CacheKey, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: CacheKey) -> tuple[Tensor, ...] | None:
        """The outputs kept for ``key``; None where there are none. Nothing may write to them."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.outputs

    def keep(self, key: CacheKey, answer: KeptAnswer) -> None:
        """Keep ``answer`` in place of what was used least recently. What is larger than all is not kept."""
        if answer.size_bytes > self.max_bytes or key in self._entries:
            return
        while self.size_bytes + answer.size_bytes > self.max_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[key] = answer
        self._keys.setdefault(key.version, {})[key] = None
        self.size_bytes += answer.size_bytes

    def forget(self, version: object, at_most: int = _FORGOTTEN_AT_ONCE) -> bool:
        """Let go of the answers of ``version``, or of so many of them; whether there are more."""
        for key in list(islice(self._keys.get(version, ()), at_most)):
            self._remove(key)
        return version in self._keys

    def _remove(self, key: CacheKey) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes
        keys = self._keys[key.version]
        del keys[key]
        if not keys:
            del self._keys[key.version]


def kept(outputs: Sequence[Tensor], max_bytes: int) -> KeptAnswer | None:
    """``outputs`` as they may be kept; None where they take more than ``max_bytes``, of which nothing is copied.

    An array that is part of a larger one, such as a batch's, is copied. Takes long for large ones.
    """
    size = _ENTRY_BYTES + sum(map(_size_bytes, outputs))
    return None if size > max_bytes else KeptAnswer(tuple(map(_own, outputs)), size)


def digest_of(request: InferenceRequest, all_outputs: Sequence[str]) -> bytes:
    """What tells the question of ``request`` from every other that its version, with ``all_outputs``, can be asked.

    The inputs by name, each with its datatype, shape and elements, and which outputs are asked for, in whichever order.
    Triton's key has neither shapes and datatypes nor the outputs. Every part has its length before it, so that no two
    questions give the same bytes. Takes about 1 ns a byte.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    wanted = [(output.name, output.class_count) for output in request.outputs] or [(name, 0) for name in all_outputs]
    digest.update(repr(sorted(wanted)).encode())
    for tensor in sorted(request.inputs, key=lambda tensor: tensor.name):
        data = element_bytes(tensor)
        digest.update(repr((tensor.name, tensor.datatype.name, tensor.shape, len(data))).encode())
        digest.update(data)
    return digest.digest()


def are_small(tensors: Iterable[Tensor]) -> bool:
    """Whether to read them all takes less than about a millisecond."""
    left = _SMALL_BYTES
    for tensor in tensors:
        left -= tensor.array.nbytes * (_TEXT_EFFORT if tensor.datatype is BYTES else 1)
        if left < 0:
            return False
        if tensor.datatype is BYTES:
            left -= sum(map(len, tensor.array.reshape(-1).tolist()))
    return left >= 0


def _size_bytes(tensor: Tensor) -> int:
    array = tensor.array
    if tensor.datatype is not BYTES:
        return _TENSOR_BYTES + array.nbytes
    return _TENSOR_BYTES + array.nbytes + sum(map(sys.getsizeof, array.reshape(-1).tolist()))


def _own(tensor: Tensor) -> Tensor:
    """The tensor with an array of its own: what it is a view of would stay in memory with it, and might change."""
    array = tensor.array.view() if _is_whole(tensor.array) else tensor.array.copy()
    array.flags.writeable = False
    return replace(tensor, array=array)


def _is_whole(array: Array) -> bool:
    """Whether the array's memory is its own, or that of an array of its size that it is another form of."""
    owner = array.base if isinstance(array.base, np.ndarray) else array
    return bool(owner.flags.owndata and owner.nbytes == array.nbytes)
