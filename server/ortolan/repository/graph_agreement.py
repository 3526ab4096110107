"""Whether a model configuration agrees with the model's graph. Pure.

The texts begin as Triton's do, because people search for them; each ends with what the model has and what to write.
"""

from collections.abc import Iterable, Mapping, Sequence

from ortolan.errors import InvalidArgument
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import ModelConfig


def check_agreement(config: ModelConfig, graph: GraphSignature) -> None:
    """Raises InvalidArgument when ``config``, complete, declares tensors that the graph does not have like that."""
    _check_inputs(config, graph)
    _check_outputs(config, graph)
    _check_warmup(config)


def usable_inputs(graph: GraphSignature, batching: bool) -> tuple[GraphTensor, ...]:
    """The graph's inputs that clients may send; the optional ones, which have no batch dimension, not when batching."""
    return tuple(tensor for tensor in graph.inputs if not (batching and tensor.optional))


def open_sizes(shape: Iterable[int]) -> tuple[int, ...]:
    """A graph tensor's shape, where a fixed size of 0, which no configuration can say, counts as any size."""
    return tuple(size if size > 0 else -1 for size in shape)


def shape_text(shape: Iterable[int]) -> str:
    """``[-1,3,224,224]``."""
    return "[" + ",".join(str(size) for size in shape) + "]"


def _check_inputs(config: ModelConfig, graph: GraphSignature) -> None:
    allowed = {tensor.name: tensor for tensor in usable_inputs(graph, config.max_batch_size > 0)}
    _refuse_defaulted(config, graph, allowed)
    required = [tensor.name for tensor in allowed.values() if not tensor.optional]
    if not len(required) <= len(config.inputs) <= len(allowed):
        raise _count_differs(config, "input", config.inputs, allowed, required)
    _check_names(config, "input", config.inputs, allowed)
    declared = {spec.name for spec in config.inputs}
    if not declared.issuperset(required):
        raise _count_differs(config, "input", config.inputs, allowed, required)
    for spec in config.inputs:
        _check_input(config, spec, allowed[spec.name])


def _refuse_defaulted(config: ModelConfig, graph: GraphSignature, allowed: Iterable[str]) -> None:
    names = list(allowed)
    withheld = {tensor.name for tensor in graph.inputs} - set(names)
    for spec in config.inputs:
        if spec.name in withheld:
            raise InvalidArgument(
                f"unable to load model '{config.name}', unexpected inference input '{spec.name}', allowed inputs are: "
                f"{', '.join(names)}; the model has a default for '{spec.name}', one for all rows of a batch, and "
                f"max_batch_size is {config.max_batch_size}: leave the input out, or set max_batch_size: 0 and write "
                "whole shapes as dims"
            )


def _check_outputs(config: ModelConfig, graph: GraphSignature) -> None:
    allowed = {tensor.name: tensor for tensor in graph.outputs}
    if len(config.outputs) > len(allowed):
        raise _count_differs(config, "output", config.outputs, allowed, ())
    _check_names(config, "output", config.outputs, allowed)
    for spec in config.outputs:
        tensor = allowed[spec.name]
        _check_datatype(config, "output", spec, tensor)
        if tensor.shape is None or spec.name in config.batch_output_names:
            continue
        sizes = open_sizes(tensor.shape)
        _check_batch_dimension(config, tensor.name, sizes)
        if spec.graph_shape(config.max_batch_size > 0) != sizes:
            raise _shape_differs(config, spec, sizes)


def _count_differs(
    config: ModelConfig,
    kind: str,
    specs: Sequence[TensorSpec],
    allowed: Mapping[str, GraphTensor],
    needed: Iterable[str],
) -> InvalidArgument:
    declared = [spec.name for spec in specs]
    batching = config.max_batch_size > 0
    advice = [f"add {kind} [ {_lines_of(allowed[name], batching)} ]" for name in needed if name not in declared]
    advice += [f"remove {kind} '{name}'" for name in declared if name not in allowed]
    return InvalidArgument(
        f"unable to load model '{config.name}', configuration expects {len(declared)} {kind}s, model provides "
        f"{len(allowed)}: {', '.join(allowed)}; the configuration has {', '.join(declared)}: "
        f"{', '.join([*advice, ''])}or leave '{kind}' out, and all are taken from the model"
    )


def _lines_of(tensor: GraphTensor, batching: bool) -> str:
    """What ``config.pbtxt`` says of a graph's tensor."""
    dims = "dims: [ -1 ]" if tensor.shape is None else dims_to_write(open_sizes(tensor.shape), batching)
    return f'{{ name: "{tensor.name}" data_type: {tensor.datatype.config_name} {dims} }}'


def _check_names(config: ModelConfig, kind: str, specs: Sequence[TensorSpec], allowed: Iterable[str]) -> None:
    names = list(allowed)
    for spec in specs:
        if spec.name not in names:
            raise InvalidArgument(
                f"unable to load model '{config.name}', unexpected inference {kind} '{spec.name}', allowed {kind}s "
                f"are: {', '.join(names)}; write one of these, or leave '{kind}' out of config.pbtxt"
            )


def _check_input(config: ModelConfig, spec: TensorSpec, tensor: GraphTensor) -> None:
    _check_datatype(config, "input", spec, tensor)
    if spec.optional and not tensor.optional:
        raise InvalidArgument(
            f"model '{config.name}', tensor '{spec.name}': the configuration says optional, but the model has no "
            "default for it; leave 'optional' out"
        )
    if tensor.shape is None or spec.ragged:
        return
    wanted, sizes = spec.graph_shape(config.max_batch_size > 0), open_sizes(tensor.shape)
    _check_batch_dimension(config, tensor.name, sizes)
    # The configuration may narrow a size that the graph leaves open, and must not open one that the graph fixes.
    fits = len(wanted) == len(sizes) and all(size in (-1, mine) for mine, size in zip(wanted, sizes, strict=True))
    if not fits:
        raise _shape_differs(config, spec, sizes)


def _check_datatype(config: ModelConfig, kind: str, spec: TensorSpec, tensor: GraphTensor) -> None:
    if spec.datatype is not tensor.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects datatype {spec.datatype.config_name} for "
            f"{kind} '{spec.name}', model provides {tensor.datatype.config_name}; write data_type: "
            f"{tensor.datatype.config_name}"
        )


def _check_batch_dimension(config: ModelConfig, name: str, sizes: tuple[int, ...]) -> None:
    if config.max_batch_size > 0 and sizes[:1] != (-1,):
        raise InvalidArgument(
            f"model '{config.name}', tensor '{name}': for the model to support batching the shape should have "
            "at least 1 dimension and the first dimension must be -1; but shape expected by the model is "
            f"{shape_text(sizes)}, and max_batch_size is {config.max_batch_size}. Set max_batch_size: 0 and write "
            f"whole shapes as dims, for this tensor {dims_to_write(sizes, batching=False)}; or export the model with a "
            "dynamic first dimension."
        )


def _shape_differs(config: ModelConfig, spec: TensorSpec, sizes: tuple[int, ...]) -> InvalidArgument:
    batching = config.max_batch_size > 0
    configured = spec.graph_shape(batching)
    note = ", the batch dimension for max_batch_size > 0 counted" if batching else ""
    return InvalidArgument(
        f"model '{config.name}', tensor '{spec.name}': the model expects {len(sizes)} dimensions (shape "
        f"{shape_text(sizes)}) but the model configuration specifies {len(configured)} dimensions (shape "
        f"{shape_text(configured)}{note}). Write {_advice(config, spec, sizes)}."
    )


def _advice(config: ModelConfig, spec: TensorSpec, sizes: Sequence[int]) -> str:
    batching = config.max_batch_size > 0
    dims = dims_to_write(sizes, batching)
    if spec.reshape is not None:
        inner = ", ".join(str(size) for size in (sizes[1:] if batching else sizes))
        return f"reshape {{ shape: [ {inner} ] }}, or leave reshape out and write {dims}"
    forgotten = not batching and sizes[:1] == (-1,) and spec.dims == tuple(sizes[1:])
    return f"{dims}, or max_batch_size: 1 or more if the first dimension is the batch" if forgotten else dims


def dims_to_write(sizes: Sequence[int], batching: bool) -> str:
    """The line of ``config.pbtxt`` that describes a graph tensor of these sizes."""
    inner = sizes[1:] if batching else sizes
    if not inner:
        return "dims: [ 1 ] reshape { shape: [ ] }"
    return f"dims: [ {', '.join(str(size) for size in inner)} ]"


def _check_warmup(config: ModelConfig) -> None:
    """Warm-up samples must send what clients would: the right names, datatypes and shapes."""
    inputs = {spec.name: spec for spec in config.inputs}
    required = {spec.name for spec in config.inputs if not spec.optional}
    for sample in config.warmup:
        place = f"model '{config.name}': warm-up sample '{sample.name}'"
        missing = sorted(required - {each.spec.name for each in sample.inputs})
        if missing:
            raise InvalidArgument(f"{place} must give every input; missing are {', '.join(missing)}")
        if sample.batch_size > max(config.max_batch_size, 1):
            raise InvalidArgument(
                f"{place}: batch_size must be at most {max(config.max_batch_size, 1)}, got {sample.batch_size}"
            )
        for each in sample.inputs:
            _check_warmup_input(f"{place}, input '{each.spec.name}'", each.spec, inputs.get(each.spec.name))


def _check_warmup_input(place: str, given: TensorSpec, declared: TensorSpec | None) -> None:
    if declared is None:
        raise InvalidArgument(f"{place}: the model has no such input")
    if given.datatype is not declared.datatype:
        raise InvalidArgument(
            f"{place}: expected data_type {declared.datatype.config_name}, got {given.datatype.config_name}"
        )
    fits = len(given.dims) == len(declared.dims) and all(
        wanted in (-1, size) for size, wanted in zip(given.dims, declared.dims, strict=True)
    )
    if not fits:
        raise InvalidArgument(f"{place}: expected dims {shape_text(declared.dims)}, got {shape_text(given.dims)}")
