"""Requests of different shapes ⇄ one batch: elements end to end, and what tells the model whose they are. Pure numpy.

As Triton's collectors and responders do it (``backend_input_collector.cc``, ``backend_output_responder.cc``): counts
are per request, all of its rows together; item shapes are per row, without the batch dimension. Nothing is padded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.batch import Inputs, stack
from ortolan.inference.datatypes import Array, Datatype
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.ragged_config import BatchInput, BatchInputKind

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scattered:
    """An output whose elements are dealt out: its shape, where -1 is the size that ``source`` has in that place."""

    shape: Shape
    source: str


@dataclass(frozen=True, slots=True)
class RaggedForm:
    """Which tensors of a version's batches are not put together, or taken apart, row by row."""

    ragged: frozenset[str]
    batch_inputs: tuple[BatchInput, ...]
    scattered: Mapping[str, Scattered]
    batching: bool

    @staticmethod
    def of(config: ModelConfig) -> "RaggedForm | None":
        """The form of the batches of ``config``, complete; None where all tensors have rows."""
        batching = config.max_batch_size > 0
        ragged = frozenset(spec.name for spec in config.inputs if spec.ragged)
        shapes = {spec.name: spec.graph_shape(batching) for spec in config.outputs}
        scattered = {
            name: Scattered(shapes[name], block.source) for block in config.batch_outputs for name in block.targets
        }
        if not (ragged or config.batch_inputs or scattered):
            return None
        return RaggedForm(ragged, config.batch_inputs, scattered, batching)

    def gathered(self, requests: Sequence[Inputs]) -> Inputs:
        """The graph's inputs for the requests as one batch.

        Raises InvalidArgument when a count is too large to be told exactly in the datatype of its batch input.
        """
        even = [{name: array for name, array in each.items() if name not in self.ragged} for each in requests]
        inputs = dict(stack(even))
        for name in self.ragged:
            inputs[name] = np.concatenate([each[name].reshape(-1) for each in requests])
        for block in self.batch_inputs:
            shapes = [each[block.source].shape for each in requests]
            made = batch_input(block.kind, shapes, block.datatype, self.batching)
            inputs.update(dict.fromkeys(block.targets, made))
        return inputs

    def dealt(
        self, outputs: Sequence[Array], names: Sequence[str], requests: Sequence[Inputs], rows: Sequence[int]
    ) -> list[list[Array]]:
        """For each request its part of every output, as views.

        Raises Internal when an output has neither the elements nor the rows that the requests call for.
        """
        columns = [
            _scatter(name, output, [_filled(self.scattered[name], each) for each in requests])
            if name in self.scattered
            else _split(name, output, rows)
            for name, output in zip(names, outputs, strict=True)
        ]
        return [list(parts) for parts in zip(*columns, strict=True)]


def batch_input(kind: BatchInputKind, shapes: Sequence[Shape], datatype: Datatype, batching: bool) -> Array:
    """The tensor that tells of the ``shapes`` of the requests' source inputs, as they are in the graph.

    Raises InvalidArgument when a number is too large to be told exactly in ``datatype``.
    """
    counts = [math.prod(shape) for shape in shapes]
    match kind:
        case BatchInputKind.ELEMENT_COUNT:
            return _exactly(counts, datatype)
        case BatchInputKind.ACCUMULATED_ELEMENT_COUNT:
            return _exactly(list(accumulate(counts)), datatype)
        case BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO:
            return _exactly([0, *accumulate(counts)], datatype)
        case BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE:
            # Only its shape says something; Triton leaves the content to chance.
            return np.zeros(max(counts), datatype.numpy)
        case BatchInputKind.ITEM_SHAPE:
            items = _item_shapes(shapes, batching)
            return _exactly([size for item in items for size in item], datatype).reshape(len(items), len(items[0]))
        case BatchInputKind.ITEM_SHAPE_FLATTEN:
            return _exactly([size for item in _item_shapes(shapes, batching) for size in item], datatype)


def _item_shapes(shapes: Sequence[Shape], batching: bool) -> list[Shape]:
    """The shape of each row, without the batch dimension."""
    if not batching:
        return list(shapes)
    return [shape[1:] for shape in shapes for _ in range(shape[0])]


def _exactly(numbers: Sequence[int], datatype: Datatype) -> Array:
    wide = np.array(numbers, np.int64)
    array = wide.astype(datatype.numpy)
    if not np.array_equal(array.astype(np.int64), wide):
        raise InvalidArgument(
            f"the batch has {int(wide.max())} elements, which {datatype.config_name} cannot tell exactly: send fewer"
        )
    return array


def _filled(scattered: Scattered, inputs: Inputs) -> Shape:
    source = inputs[scattered.source].shape
    return tuple(source[index] if size == -1 else size for index, size in enumerate(scattered.shape))


def _scatter(name: str, output: Array, shapes: Sequence[Shape]) -> list[Array]:
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != output.size:
        raise Internal(
            f"output '{name}' has {output.size} elements for a batch whose requests call for {sum(sizes)}: by "
            "batch_output, each gets as many as its dims and the sizes of its source_input say"
        )
    flat = output.reshape(-1)
    ends = list(accumulate(sizes))
    return [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _split(name: str, output: Array, rows: Sequence[int]) -> list[Array]:
    if len(rows) == 1:
        return [output]
    total = sum(rows)
    if output.shape[:1] != (total,):
        raise Internal(
            f"output '{name}' has shape {list(output.shape)} for a ragged batch of {total} rows: the model must give a "
            "row for each, or a batch_output must say how its elements are dealt out; counts are one for each request, "
            "so send requests of one row"
        )
    return [output[end - count : end] for end, count in zip(accumulate(rows), rows, strict=True)]
