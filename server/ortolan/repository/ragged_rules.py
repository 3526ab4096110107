"""The rules of ragged batches: those a configuration obeys by itself, and those that tie it to the graph. Pure.

Texts begin as Triton's do (``model_config_utils.cc``, ``onnxruntime.cc``), because people search for them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ortolan.errors import InvalidArgument
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.graph_agreement import open_sizes, shape_text
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.ragged_config import BatchInput, BatchInputKind, BatchOutput


def validate(config: ModelConfig) -> None:
    """Raises InvalidArgument for the first rule that the ragged inputs, batch inputs or batch outputs break."""
    where = f"model '{config.name}'"
    ragged = [spec for spec in config.inputs if spec.ragged and not config.is_ensemble]
    if not (ragged or config.batch_inputs or config.batch_outputs):
        return
    _require(
        config.sequence_batching is None,
        f"{where}: allow_ragged_batch, batch_input and batch_output are not available with sequence_batching, whose "
        "requests have one row each: leave one of them out",
    )
    optional = next((spec.name for spec in ragged if spec.optional), None)
    _require(optional is None, f"{where}: input '{optional}': allow_ragged_batch is not supported for optional input")
    _check_sources(where, config)
    _check_targets(where, config)
    for each in config.batch_outputs:
        _check_batch_output(f"{where}: batch_output", each, config)


def _check_sources(where: str, config: ModelConfig) -> None:
    # Inputs that come from the graph are checked again when they have.
    names = {spec.name for spec in config.inputs}
    for kind, blocks in (("batch_input", config.batch_inputs), ("batch_output", config.batch_outputs)):
        for each in blocks:
            _require(
                not names or each.source in names,
                f"{where}: {kind} '{each.targets[0]}': unknown source input name '{each.source}'; the inputs are "
                f"{', '.join(sorted(names))}",
            )


def _check_targets(where: str, config: ModelConfig) -> None:
    inputs = [*(spec.name for spec in config.inputs), *config.batch_input_names]
    twice = _repeated(inputs)
    _require(
        twice is None,
        f"{where}: '{twice}' must be either an input or a target_name of batch_input, and only once; what the server "
        "makes is not declared under 'input'",
    )
    twice = _repeated(name for each in config.batch_outputs for name in each.targets)
    _require(twice is None, f"{where}: '{twice}' is the target_name of two batch_output")


def _check_batch_output(where: str, block: BatchOutput, config: ModelConfig) -> None:
    outputs = {spec.name: spec for spec in config.outputs}
    source = next((spec for spec in config.inputs if spec.name == block.source), None)
    for name in block.targets:
        _require(
            name in outputs,
            f"{where}: unknown target output name '{name}': declare it under 'output', with dims as its clients see it",
        )
        if source is None:
            continue
        open_at = [index for index, size in enumerate(_row_dims(outputs[name])) if size == -1]
        _require(
            not open_at or max(open_at) < len(_row_dims(source)),
            f"{where}: output '{name}' has dims {shape_text(_row_dims(outputs[name]))}, whose variable sizes are those "
            f"of input '{block.source}', which has dims {shape_text(_row_dims(source))} and none in that place",
        )


def _row_dims(spec: TensorSpec) -> tuple[int, ...]:
    return spec.graph_shape(batching=False)


# -- the graph -----------------------------------------------------------------------------------------------------


def without_own_tensors(graph: GraphSignature, config: ModelConfig) -> GraphSignature:
    """What of ``graph`` is for clients: not what the server makes."""
    own = config.batch_input_names
    return replace(graph, inputs=tuple(each for each in graph.inputs if each.name not in own)) if own else graph


def check_agreement(config: ModelConfig, graph: GraphSignature) -> None:
    """Raises InvalidArgument when the ragged and the batch inputs of ``config``, complete, are not in the graph so."""
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    where = f"unable to load model '{config.name}'"
    for spec in config.inputs:
        if spec.ragged and spec.name in inputs:
            _check_ragged(where, spec.name, inputs[spec.name])
    for block in config.batch_inputs:
        for name in block.targets:
            _check_batch_input(f"{where}, batch input '{name}'", name, block, config, inputs)


def _check_ragged(where: str, name: str, tensor: GraphTensor) -> None:
    sizes = open_sizes(tensor.shape) if tensor.shape is not None else (-1,)
    _require(
        sizes == (-1,),
        f"{where}, configuration expects model provides input with shape [-1] for ragged input '{name}', model "
        f"provides {shape_text(sizes)}: the elements of all requests come in one dimension. Export the model so, with "
        "a batch_input that tells them apart, or leave allow_ragged_batch out",
    )


def _check_batch_input(
    place: str, name: str, block: BatchInput, config: ModelConfig, inputs: Mapping[str, GraphTensor]
) -> None:
    _require(name in inputs, f"{place} is not an input of the model; its inputs are {', '.join(inputs)}")
    tensor = inputs[name]
    _require(
        tensor.datatype is block.datatype,
        f"{place}: in the model it has data-type {tensor.datatype.config_name}, but the configuration says "
        f"{block.datatype.config_name}",
    )
    expected = _shape(block, config)
    sizes = expected if tensor.shape is None else open_sizes(tensor.shape)
    _require(
        len(sizes) == len(expected) and all(size in (-1, wanted) for size, wanted in zip(sizes, expected, strict=True)),
        f"{place}: in the model it has dims {shape_text(sizes)}, but {block.kind.config_name} gives "
        f"{shape_text(expected)}",
    )


def _shape(block: BatchInput, config: ModelConfig) -> tuple[int, ...]:
    """The shape of a batch input; -1 for what differs from batch to batch."""
    source = next(spec for spec in config.inputs if spec.name == block.source)
    rank = len(_row_dims(source))
    alone = config.max_batch_size <= 1
    match block.kind:
        case BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE:
            return (-1,)
        case BatchInputKind.ITEM_SHAPE:
            return (1 if alone else -1, rank)
        case BatchInputKind.ITEM_SHAPE_FLATTEN:
            return (rank if alone else -1,)
        case BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO:
            return (2 if alone else -1,)
        case _:
            return (1 if alone else -1,)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidArgument(otherwise)


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)
