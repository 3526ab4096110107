"""What the configuration file leaves out, from the graph's inputs and outputs. Pure.

Triton's rules, in Triton's order, but for two points where people trip: the graph's order of inputs and outputs is
kept, and tensors that are declared with their whole shapes mean a model without a batch dimension.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ortolan.errors import InvalidArgument
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository import ragged_rules, sequence_rules
from ortolan.repository.config_support import BACKEND, PLATFORM
from ortolan.repository.config_validation import validate
from ortolan.repository.graph_agreement import check_agreement, open_sizes, shape_text, usable_inputs
from ortolan.repository.graph_signature import GraphSignature, GraphTensor
from ortolan.repository.model_config import (
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    asks_for_own_batches,
)
from ortolan.repository.model_directory import DEFAULT_MODEL_FILENAME
from ortolan.repository.sequence_config import with_defaults


@dataclass(frozen=True, slots=True)
class CompletionDefaults:
    """What the server chooses where neither file nor graph does. ``gpus`` are the devices that instances may use."""

    max_batch_size: int = 4
    cpu_instances: int = 1
    gpus: tuple[int, ...] = ()


def default_config(name: str) -> ModelConfig:
    """The configuration of a model without a file."""
    return ModelConfig(name=name, platform=PLATFORM, backend=BACKEND, default_model_filename=DEFAULT_MODEL_FILENAME)


def complete(config: ModelConfig, graph: GraphSignature, defaults: CompletionDefaults) -> ModelConfig:
    """``config`` with nothing left open, checked against ``graph``.

    Instance groups come out as ``CPU`` or ``GPU`` with a name and a count of 1 or more. Raises InvalidArgument when
    the configuration does not fit the graph, or asks for GPUs that are not in ``defaults``.
    """
    named = replace(
        config,
        platform=config.platform or PLATFORM,
        backend=config.backend or BACKEND,
        default_model_filename=config.default_model_filename or DEFAULT_MODEL_FILENAME,
    )
    for_clients = ragged_rules.without_own_tensors(sequence_rules.without_own_tensors(graph, config), config)
    filled = named if named.inputs and named.outputs else _filled_from(for_clients, named, defaults)
    complete = complete_instance_groups(_with_batching_defaults(filled), defaults)
    validate(complete)
    sequence_rules.validate(complete)
    ragged_rules.validate(complete)
    ragged_rules.check_agreement(complete, graph)
    check_agreement(complete, for_clients)
    sequence_rules.check_agreement(complete, graph)
    return complete


def complete_instance_groups(config: ModelConfig, defaults: CompletionDefaults) -> ModelConfig:
    """``config`` with its instance groups decided, which needs no graph: a session is made before there is one.

    Raises InvalidArgument when the configuration asks for GPUs that are not in ``defaults``.
    """
    groups = _placed_groups(config, defaults)
    notes = [
        f"instance_group[{index}].gpus {list(group.gpus)} is ignored: this server has no GPU, so its instances are on "
        "the CPU; write kind: KIND_GPU if they must not be"
        for index, (group, placed) in enumerate(zip(config.instance_groups, groups, strict=False))
        if group.gpus and placed.kind is InstanceKind.CPU
    ]
    return replace(config, instance_groups=groups, warnings=(*config.warnings, *notes))


def _filled_from(graph: GraphSignature, config: ModelConfig, defaults: CompletionDefaults) -> ModelConfig:
    max_batch_size = _batch_size(graph, config, defaults)
    batching = max_batch_size > 0
    dynamic_batching = config.dynamic_batching
    if dynamic_batching is None and config.sequence_batching is None and max_batch_size > 1:
        dynamic_batching = DynamicBatching()
    return replace(
        config,
        max_batch_size=max_batch_size,
        dynamic_batching=dynamic_batching,
        inputs=config.inputs or _input_specs(config, graph, batching),
        outputs=config.outputs or _specs(graph.outputs, batching),
        completed=True,
    )


def _batch_size(graph: GraphSignature, config: ModelConfig, defaults: CompletionDefaults) -> int:
    unbatchable = _unbatchable(graph, config)
    if not unbatchable:
        # A file cannot tell 0 from absent, but shapes with the batch dimension written out mean 0.
        return config.max_batch_size or (0 if _declares_whole_shapes(config, graph) else defaults.max_batch_size)
    if config.max_batch_size:
        reason = _why_not(unbatchable[0]) if graph.inputs else "it has no inputs"
        raise InvalidArgument(
            f"autofill failed for model '{config.name}': model does not support batching while non-zero max_batch_size "
            f"is specified: {reason}. Set max_batch_size: 0, or export the model with a dynamic first dimension."
        )
    return 0


def _unbatchable(graph: GraphSignature, config: ModelConfig) -> tuple[GraphTensor, ...]:
    """The tensors because of which the model has no batch dimension; empty when it has one.

    Inputs with a default of their own do not count: a batching model is served without them. Nor do tensors of which
    only the configuration can know, where it declares them and asks for batches.
    """
    inputs = usable_inputs(graph, batching=True)
    if not inputs:
        return graph.outputs
    declared = {spec.name for spec in (*config.inputs, *config.outputs)} if config.max_batch_size else set()
    return tuple(tensor for tensor in (*inputs, *graph.outputs) if not _can_batch(tensor, tensor.name in declared))


def _can_batch(tensor: GraphTensor, declared: bool) -> bool:
    if tensor.shape is None:
        return declared
    return tensor.shape[:1] == (-1,) and (tensor.batchable or declared)


def _why_not(tensor: GraphTensor) -> str:
    """Why a tensor makes its model one without a batch dimension."""
    if tensor.shape is None:
        return f"the model leaves the number of dimensions of '{tensor.name}' open, so declare it in config.pbtxt"
    if tensor.shape[:1] == (-1,):
        return f"'{tensor.name}' is a sequence or optional; declare it in config.pbtxt if it has a row for each request"
    return f"'{tensor.name}' has the shape {shape_text(tensor.shape)}, whose first dimension is not dynamic"


def _declares_whole_shapes(config: ModelConfig, graph: GraphSignature) -> bool:
    tensors = (*graph.inputs, *graph.outputs)
    ranks = {tensor.name: len(tensor.shape) for tensor in tensors if tensor.shape is not None}
    # The elements of ragged inputs, and of what is dealt out, come in one dimension however many the requests have.
    inputs = (spec for spec in config.inputs if not spec.ragged)
    outputs = (spec for spec in config.outputs if spec.name not in config.batch_output_names)
    return any(len(spec.graph_shape(batching=False)) == ranks.get(spec.name) for spec in (*inputs, *outputs))


def _input_specs(config: ModelConfig, graph: GraphSignature, batching: bool) -> tuple[TensorSpec, ...]:
    """The inputs as the graph has them. InvalidArgument where it leaves open what a request could be checked by."""
    inputs = usable_inputs(graph, batching)
    for tensor in inputs:
        if tensor.shape is None:
            raise InvalidArgument(
                f"model '{config.name}': the model leaves the number of dimensions of its input '{tensor.name}' open, "
                f"so config.pbtxt must declare its inputs ({', '.join(each.name for each in inputs)}); for this one "
                f'write input [ {{ name: "{tensor.name}" data_type: {tensor.datatype.config_name} dims: [ -1 ] }} ] '
                "with a size, or -1, for each dimension that it has"
            )
    return _specs(inputs, batching)


def _specs(tensors: Iterable[GraphTensor], batching: bool) -> tuple[TensorSpec, ...]:
    return tuple(_spec(tensor, batching) for tensor in tensors)


def _spec(tensor: GraphTensor, batching: bool) -> TensorSpec:
    if tensor.shape is None:
        # One dimension of any size stands for any number of them; what such an output has is seen when it comes.
        return TensorSpec(tensor.name, tensor.datatype, (-1,), tensor.optional)
    sizes = open_sizes(tensor.shape[1:] if batching else tensor.shape)
    # A configuration cannot declare a scalar, so one element stands for it.
    return TensorSpec(
        name=tensor.name,
        datatype=tensor.datatype,
        dims=sizes or (1,),
        optional=tensor.optional,
        reshape=None if sizes else (),
    )


def _with_batching_defaults(config: ModelConfig) -> ModelConfig:
    sequences = config.sequence_batching
    if sequences is not None:
        sequences = with_defaults(sequences, config.max_batch_size, config.name)
    return replace(config, dynamic_batching=_with_preferred_sizes(config), sequence_batching=sequences)


def _with_preferred_sizes(config: ModelConfig) -> DynamicBatching | None:
    """Without preferred sizes Triton prints the largest batch as the one preferred; it asks for nothing."""
    batching = config.dynamic_batching
    if batching is None:
        return None
    sizes = batching.preferred_batch_sizes
    if config.max_batch_size == 0:
        if sizes:
            raise InvalidArgument(
                f"model '{config.name}': dynamic_batching.preferred_batch_size {shape_text(sizes)} needs a batch "
                "dimension: set max_batch_size, or leave the preferred sizes out"
            )
        return batching
    preferred = sizes or (config.max_batch_size,)
    explicit = asks_for_own_batches(preferred, batching.max_queue_delay_us, config.max_batch_size)
    return replace(batching, preferred_batch_sizes=preferred, explicit=explicit)


def _placed_groups(config: ModelConfig, defaults: CompletionDefaults) -> tuple[InstanceGroup, ...]:
    groups = config.instance_groups or (InstanceGroup(name=config.name),)
    return tuple(_placed(group, f"{config.name}_{index}", config, defaults) for index, group in enumerate(groups))


def _placed(group: InstanceGroup, name: str, config: ModelConfig, defaults: CompletionDefaults) -> InstanceGroup:
    name = group.name or name
    # ONNX Runtime places nothing by itself, so KIND_MODEL is ours to decide as well.
    decided_here = group.kind in (InstanceKind.AUTO, InstanceKind.MODEL)
    if group.kind is InstanceKind.CPU or (decided_here and not defaults.gpus):
        return replace(group, name=name, kind=InstanceKind.CPU, count=group.count or defaults.cpu_instances, gpus=())
    missing = [gpu for gpu in group.gpus if gpu not in defaults.gpus]
    if missing or not defaults.gpus:
        there = f"available are GPUs {shape_text(defaults.gpus)}" if defaults.gpus else "this server has no GPU"
        asked = f"GPU {missing[0]}" if missing else "GPUs"
        raise InvalidArgument(
            f"instance group '{name}' of model '{config.name}' asks for {asked}, but {there}: change gpus, or write "
            "kind: KIND_CPU"
        )
    return replace(group, name=name, kind=InstanceKind.GPU, count=group.count or 1, gpus=group.gpus or defaults.gpus)
