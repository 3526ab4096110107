"""Which runs of a session can have their tensors bound, and how large its outputs will be. Pure.

Bound are numbers: text has no OrtValue, and what is no tensor by itself has no address. An output's place can be made
before the run where its sizes are fixed or are those of inputs, by the names that the graph gives to open sizes.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ortolan.execution.output_forms import OutputForm
from ortolan.inference.datatypes import BY_ONNX_TYPE, BYTES, Array, Datatype
from ortolan.repository.graph_signature import GraphSignature

Dims = tuple[int | str | None, ...]
"""A size each: a number, the name of an open one, or None for an open one without a name."""
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BoundTensor:
    """An input or output that can be bound. ``dims`` is None for any rank."""

    name: str
    datatype: Datatype
    dims: Dims | None
    on_device: bool
    """Whether the graph takes it from, or makes it in, the memory of the session's device."""


@dataclass(frozen=True, slots=True)
class BindingPlan:
    """``required`` are the inputs without which there is no run."""

    inputs: Mapping[str, BoundTensor]
    outputs: Mapping[str, BoundTensor]
    required: frozenset[str]

    def binds(self, feeds: Mapping[str, Array], output_names: Iterable[str]) -> bool:
        """Whether a run of these inputs and outputs can be bound; others are for the runtime, or for it to refuse."""
        # What is bound is read as what the graph declares, so that another datatype would be read beyond its end.
        return (
            feeds.keys() == self.required
            and all(name in self.inputs and feeds[name].dtype == self.inputs[name].datatype.numpy for name in feeds)
            and all(name in self.outputs for name in output_names)
        )

    def output_shapes(self, input_shapes: Mapping[str, Shape], output_names: Iterable[str]) -> dict[str, Shape | None]:
        """The shape of each output that is told by the inputs' shapes, and None for one that is not."""
        sizes = self._sizes(input_shapes)
        return {name: _resolved(self.outputs[name].dims, sizes) for name in output_names}

    def moved_bytes(self, feeds: Mapping[str, Array], output_names: Iterable[str]) -> int:
        """How large the inputs are, and the outputs of which that is told."""
        given = sum(array.nbytes for array in feeds.values())
        told = self.output_shapes({name: array.shape for name, array in feeds.items()}, output_names)
        return given + sum(
            math.prod(shape) * self.outputs[name].datatype.size_bytes
            for name, shape in told.items()
            if shape is not None
        )

    def _sizes(self, input_shapes: Mapping[str, Shape]) -> dict[str, int]:
        """What the named open sizes are; without those that are two things at once, which the runtime allows."""
        sizes: dict[str, int] = {}
        torn: set[str] = set()
        for name, shape in input_shapes.items():
            for dim, size in zip(self.inputs[name].dims or (), shape, strict=False):
                if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                    torn.add(dim)
        return {name: size for name, size in sizes.items() if name not in torn}


def _resolved(dims: Dims | None, sizes: Mapping[str, int]) -> Shape | None:
    if dims is None:
        return None
    found = [sizes.get(dim) if isinstance(dim, str) else dim for dim in dims]
    shape = tuple(size for size in found if size is not None)
    return shape if len(shape) == len(found) else None


def plan_of(
    nodes: tuple[Sequence[Any], Sequence[Any]],
    signature: GraphSignature,
    forms: Mapping[str, OutputForm],
    devices: tuple[Sequence[bool], Sequence[bool]],
) -> BindingPlan:
    """The plan of a session whose inputs and outputs are ``nodes``, in the runtime's own objects.

    ``devices`` tells of each of them whether it is on the session's device.
    """
    given = {tensor.name: tensor.shape for tensor in signature.inputs}
    inputs = [_bound(node, given[node.name], here) for node, here in zip(nodes[0], devices[0], strict=True)]
    outputs = [
        _bound(node, forms[node.name].tensor.shape, here) if forms[node.name].by_itself else None
        for node, here in zip(nodes[1], devices[1], strict=True)
    ]
    return BindingPlan(
        {tensor.name: tensor for tensor in inputs if tensor is not None},
        {tensor.name: tensor for tensor in outputs if tensor is not None},
        frozenset(node.name for node in nodes[0]),
    )


def _bound(node: Any, shape: Shape | None, on_device: bool) -> BoundTensor | None:
    datatype = BY_ONNX_TYPE.get(node.type)
    if datatype is None or datatype is BYTES:
        return None
    # The runtime prints a scalar and any rank alike; ``shape`` tells them apart.
    return BoundTensor(node.name, datatype, None if shape is None else tuple(map(_dim, node.shape)), on_device)


def _dim(size: Any) -> int | str | None:
    if isinstance(size, str) and size:
        return size
    return size if isinstance(size, int) and size >= 0 else None


class GraphNumbers:
    """Gives each new combination of input shapes its number, from 1 on, while there are any left.

    A captured graph holds memory of the device for as long as the session lives, so that clients must not choose how
    many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: dict[tuple[Shape, ...], int] = {}

    def of(self, shapes: tuple[Shape, ...]) -> int | None:
        if shapes not in self._numbers and len(self._numbers) == self._most:
            return None
        return self._numbers.setdefault(shapes, len(self._numbers) + 1)


def open_beyond_the_first(dims: Dims | None) -> bool:
    """Whether a size other than the first may differ from run to run."""
    return dims is None or any(not isinstance(dim, int) for dim in dims[1:])


def unbound(plan: BindingPlan, inputs: Collection[str], outputs: Collection[str]) -> list[str]:
    """Those of the session's ``inputs`` and ``outputs`` that cannot be bound."""
    missing = [f"input '{name}'" for name in inputs if name not in plan.inputs]
    return missing + [f"output '{name}'" for name in outputs if name not in plan.outputs]
