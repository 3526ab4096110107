"""Tensors in clients' memory: copied out of it before a request runs, and into it before the response is made."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from ortolan.core.memory_region import MemoryRegion
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.errors import InvalidArgument, QueueFull
from ortolan.inference.datatypes import BYTES
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.inference.shared_memory import SharedMemorySlice
from ortolan.inference.tensor_bytes import array_from_bytes, element_bytes

_Run = Callable[[InferenceRequest], Awaitable[InferenceResponse]]
_Regions = Mapping[str, MemoryRegion]

# So many bytes hold 16 thousand texts at most, which are told apart in a few milliseconds.
_QUICK_BYTES = 64 << 10


class SharedTensors:
    """Reads and writes the tensors of requests. Lives on the event loop."""

    def __init__(self, regions: SharedMemoryRegions, max_bytes: int = 1 << 30) -> None:
        """``max_bytes``: how much the copies of inputs may hold, those of all requests together.

        A shared memory object may claim to have more bytes than the machine has memory, and a request that names them
        is short, so no other limit is in the way.
        """
        self.regions = regions
        self._max_bytes = max_bytes
        self._held_bytes = 0

    async def infer(self, request: InferenceRequest, run: _Run) -> InferenceResponse:
        """What ``run`` answers to ``request``, of which everything but the elements of its inputs has been checked.
        ``run`` is given the request with all its inputs, and without a word of shared memory.

        Raises NotFound for an unknown region; InvalidArgument for bytes that a region does not have, inputs that are
        not the bytes of their datatype and shape, and outputs that need more than they were given; QueueFull while
        other requests hold the memory for copies; Unsupported where clients may not use shared memory; and what
        ``run`` raises.
        """
        self.regions.require_allowed()
        with self.regions.held(_places(request)) as regions, self._memory_for(request):
            inputs = [await _read_to_its_end(tensor, regions, request.model_name) for tensor in request.inputs]
            outputs = tuple(replace(output, shared_memory=None) for output in request.outputs)
            response = await run(replace(request, inputs=tuple(inputs), outputs=outputs))
            return replace(response, outputs=await _written(request.outputs, response.outputs, regions))

    @contextmanager
    def _memory_for(self, request: InferenceRequest) -> Iterator[None]:
        size = sum(tensor.shared_memory.size_bytes for tensor in request.inputs if tensor.shared_memory)
        if size > self._max_bytes:
            raise InvalidArgument(
                f"the inputs in shared memory have {size} bytes, more than the {self._max_bytes} that may be copied at "
                "once. Use --max-queue-bytes to increase the limit."
            )
        if self._held_bytes + size > self._max_bytes:
            raise QueueFull(
                f"Exceeds maximum queue size: inputs in shared memory hold {self._held_bytes} bytes of copies already "
                f"and may hold {self._max_bytes}. Send fewer at a time, or retry later."
            )
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size


def _places(request: InferenceRequest) -> Iterator[SharedMemorySlice]:
    for tensor in request.inputs:
        if tensor.shared_memory is not None:
            yield tensor.shared_memory
    for output in request.outputs:
        if output.shared_memory is not None:
            yield output.shared_memory


async def _read_to_its_end(tensor: Tensor, regions: _Regions, model_name: str) -> Tensor:
    """As ``_read``; who gives up meanwhile waits, with its memory, until no thread has a copy any more."""
    place = tensor.shared_memory
    # Of so few bytes the copies of those who gave up need not be counted.
    if place is None or place.size_bytes <= _QUICK_BYTES:
        return await _read(tensor, regions, model_name)
    reading = asyncio.ensure_future(_read(tensor, regions, model_name))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        while not reading.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([reading])
        if not reading.cancelled():
            # Looked at, so that asyncio does not log an error that nobody wants to know any more.
            reading.exception()
        raise


async def _read(tensor: Tensor, regions: _Regions, model_name: str) -> Tensor:
    """The tensor with its elements; as it is when it has them already."""
    place = tensor.shared_memory
    if place is None:
        return tensor
    count = prod(tensor.shape)
    expected = count * tensor.datatype.size_bytes
    if place.size_bytes != expected and tensor.datatype is not BYTES:
        raise InvalidArgument(
            f"input byte size mismatch for input '{tensor.name}' for model '{model_name}'. "
            f"Expected {expected}, got {place.size_bytes}"
        )
    data = await regions[place.region].read(place.offset, place.size_bytes)
    decoding = (data, 0, len(data), tensor.datatype, tensor.shape, count, tensor.name)
    if tensor.datatype is BYTES and len(data) > _QUICK_BYTES:
        array = await asyncio.to_thread(array_from_bytes, *decoding)
    else:
        array = array_from_bytes(*decoding)
    return Tensor(tensor.name, tensor.datatype, tensor.shape, array)


async def _written(
    wanted: tuple[RequestedOutput, ...], outputs: tuple[Tensor, ...], regions: _Regions
) -> tuple[Tensor, ...]:
    """The outputs, those that are wanted in shared memory written there. Writes none of them if one does not fit."""
    # A request that names no outputs wants all of them, and none in shared memory.
    if not wanted:
        return outputs
    placed = [(tensor, output.shared_memory) for output, tensor in zip(wanted, outputs, strict=True)]
    written = [(place, _fitting(tensor, place)) for tensor, place in placed if place is not None]
    for place, data in written:
        await regions[place.region].write(place.offset, data)
    return tuple(replace(tensor, shared_memory=place) for tensor, place in placed)


def _fitting(tensor: Tensor, place: SharedMemorySlice) -> bytes | memoryview:
    data = element_bytes(tensor)
    if len(data) > place.size_bytes:
        raise InvalidArgument(
            f"shared memory size specified with the request for output '{tensor.name}' ({place.size_bytes} bytes) "
            f"should be at least {len(data)} bytes to hold the results"
        )
    return data
