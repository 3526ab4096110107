"""Runs of a session whose inputs lie in the device's memory before they begin, and whose outputs have their places.

A run has a lane to itself: an IO binding, buffers on the device that grow as needed, and a stream for the copies.
Inputs go through page-locked memory to the lane's buffers; outputs are written by the runtime into page-locked memory
that is lent for as long as the answer lives, so that they are copied once. Nothing here holds Python's lock while
something large is copied, and lanes share nothing, so that one copies while another computes.

This was written where there was no GPU. So a bound run that fails is done again by the runtime's own means; if that
succeeds, less is bound from then on, and the log says so.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ortolan.execution.binding_plan import BindingPlan, Shape
from ortolan.execution.device_memory import DeviceBlock, DeviceMemory, address_of
from ortolan.execution.host_buffers import Bytes
from ortolan.execution.ort_values import array_of
from ortolan.execution.runtime_errors import readable
from ortolan.inference.datatypes import Array, Datatype

_log = logging.getLogger(__name__)

# The entry of RunOptions that says which CUDA graph a run is; -1 for none. Without it, it is graph 0.
GRAPH_NUMBER = "gpu_graph_id"
NO_GRAPH = "-1"

# Copies of ordinary memory up to this size do not wait for the device either.
STAGED_BYTES = 1 << 16


class Lane:
    """What one run at a time needs."""

    def __init__(self, session: Any, memory: DeviceMemory) -> None:
        self.binding = session.io_binding()
        self._memory = memory
        self._copies = memory.copies()
        self._blocks: dict[str, DeviceBlock] = {}

    def address(self, name: str, size_bytes: int) -> int:
        """Where on the device so many bytes of input ``name`` have room."""
        block = self._blocks.get(name)
        if block is None or block.size_bytes < size_bytes:
            # The old one goes first: both may not fit.
            self._blocks.pop(name, None)
            block = self._blocks[name] = self._memory.block(max(256, 1 << max(0, size_bytes - 1).bit_length()))
        return block.address

    def send(self, arrays: Iterable[tuple[int, Array]]) -> None:
        """Copy each array to its address on the device; done on return."""
        # They must stay until the copies are done.
        sources = [(address, staged(array, self._memory)) for address, array in arrays]
        for address, source in sources:
            self._copies.to_device(address, source)
        if sources:
            self._copies.wait()

    def fetch(self, arrays: Iterable[tuple[Array, int]]) -> None:
        """Fill each array from its address on the device; done on return."""
        for array, address in arrays:
            self._copies.to_host(array, address)
        self._copies.wait()


class BoundSession:
    """Safe from any thread: each run takes a lane, and makes one if none is free."""

    def __init__(
        self, session: Any, model_name: str, plan: BindingPlan, memory: DeviceMemory, least_bytes: int = 0
    ) -> None:
        """``session`` is ONNX Runtime's; runs that move less than ``least_bytes`` are left to it."""
        self._least_bytes = least_bytes
        self._session = session
        self._model_name = model_name
        self._plan = plan
        self._memory = memory
        self._lanes: deque[Lane] = deque()
        self._gave_up = 0
        """0: places for outputs are made where their sizes are told; 1: the runtime makes them; 2: nothing is bound."""

    def binds(self, feeds: Mapping[str, Array], output_names: Sequence[str]) -> bool:
        """Whether ``run`` can do this; what it cannot is for the session's plain run."""
        if self._gave_up == 2 or not self._plan.binds(feeds, output_names):
            return False
        return not self._least_bytes or self._plan.moved_bytes(feeds, output_names) >= self._least_bytes

    def prepare(self, options: Any) -> None:
        """Make new RunOptions fit for ``run``, and for plain runs."""
        # Says nothing that is not so, but where it is missing the runtime's Python code throws and catches an exception
        # in each bound run: 55 of 60 us.
        options.add_run_config_entry(GRAPH_NUMBER, NO_GRAPH)

    def run(self, feeds: Mapping[str, Array], output_names: Sequence[str], options: Any) -> list[Array]:
        """The outputs in the order of ``output_names``. Raises whatever the runtime or the device raises."""
        try:
            lane = self._lanes.pop()
        except IndexError:
            lane = Lane(self._session, self._memory)
        # A lane whose run failed is not used again: nobody knows what is still under way in it.
        outputs = self._run_in(lane, feeds, output_names, options)
        self._lanes.append(lane)
        return outputs

    def give_up(self, error: Exception) -> None:
        """A bound run failed with ``error`` that succeeded otherwise: bind less."""
        self._gave_up += 1
        what = "the places of outputs" if self._gave_up == 1 else "inputs and outputs"
        _log.warning(
            "model '%s': %s are not bound any more, because a run failed only where they were: %s",
            *(self._model_name, what, readable(error)),
        )

    def give_back(self) -> None:
        """Free what is kept for runs to come; runs that go on beside keep theirs."""
        self._lanes.clear()
        self._memory.give_back()

    def _run_in(self, lane: Lane, feeds: Mapping[str, Array], names: Sequence[str], options: Any) -> list[Array]:
        kept = self._bind_inputs(lane, feeds)
        places = self._places({name: array.shape for name, array in feeds.items()}, names)
        binding = lane.binding
        # What the runtime made for the last run's answers would be written to again.
        binding.clear_binding_outputs()
        for name in names:
            bind_place(binding, name, places.get(name), self._plan.outputs[name].datatype)
        self._session.run_with_iobinding(binding, options)
        del kept
        made = binding.get_outputs() if len(places) < len(names) else []
        return [
            places[name] if name in places else array_of(made[index], self._plan.outputs[name].datatype)
            for index, name in enumerate(names)
        ]

    def _bind_inputs(self, lane: Lane, feeds: Mapping[str, Array]) -> list[Array]:
        """Bind all inputs; the arrays that must stay for the run."""
        kept: list[Array] = []
        sent: list[tuple[int, Array]] = []
        addresses: dict[str, int] = {}
        for name, array in feeds.items():
            if self._plan.inputs[name].on_device:
                addresses[name] = lane.address(name, array.nbytes)
                sent.append((addresses[name], array))
            else:
                kept.append(np.asarray(array, order="C"))
                addresses[name] = address_of(kept[-1])
        lane.send(sent)
        for name, address in addresses.items():
            tensor = self._plan.inputs[name]
            kind, device = (self._memory.kind, self._memory.device_id) if tensor.on_device else ("cpu", 0)
            # Each time anew: the runtime may have copied what was bound, to where it needs it.
            lane.binding.bind_input(name, kind, device, tensor.datatype.onnx_element_type, feeds[name].shape, address)
        return kept

    def _places(self, shapes: Mapping[str, Shape], names: Sequence[str]) -> dict[str, Array]:
        """Host memory for each output whose shape is told before the run."""
        if self._gave_up:
            return {}
        told = self._plan.output_shapes(shapes, names)
        return {
            name: room_for(shape, self._plan.outputs[name].datatype, self._memory)
            for name, shape in told.items()
            if shape is not None
        }


def bind_place(binding: Any, name: str, place: Array | None, datatype: Datatype) -> None:
    """Have output ``name`` written to ``place``, or to where the runtime makes it on the host."""
    if place is None:
        binding.bind_output(name, "cpu")
    else:
        binding.bind_output(name, "cpu", 0, datatype.onnx_element_type, place.shape, address_of(place))


def staged(array: Array, memory: DeviceMemory) -> Array:
    """The array, contiguous, and where it is large in memory that copies are fast from."""
    if array.nbytes <= STAGED_BYTES:
        return np.asarray(array, order="C")
    stage = room_for(array.shape, array.dtype, memory)
    np.copyto(stage, array)
    return stage


def room_for(shape: Shape, datatype: "Datatype | np.dtype[np.generic]", memory: DeviceMemory) -> Array:
    """An array of arbitrary content in memory that copies are fast to and from."""
    element = datatype.numpy if isinstance(datatype, Datatype) else datatype
    size_bytes = math.prod(shape) * element.itemsize
    # An array without elements has an address all the same, which the runtime asks for.
    room: Bytes = memory.host(max(size_bytes, 1))
    return room[:size_bytes].view(element).reshape(shape)
