"""The graph of an ensemble's steps: whether it makes sense, and which steps a request needs, in which order. Pure.

The steps are joined by *ensemble tensors*: the ensemble's own inputs, and what steps give. Texts follow Triton's
(``ensemble_utils.cc``): they speak of tensors as the ensemble calls them and of inputs as the models do.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ortolan.errors import InvalidArgument
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.repository.model_config import EnsembleStep, ModelConfig


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step as a request needs it."""

    index: int
    """Of the step in the configuration."""
    outputs: Mapping[str, str]
    """Those outputs of the model that are needed → their names in the ensemble."""
    after: frozenset[int]
    """The steps whose outputs it takes."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The inputs of the model → the tensors of the ensemble that it takes."""


@dataclass(frozen=True, slots=True)
class EnsembleGraph:
    """The steps of one ensemble, joined: every tensor has one producer, and no step waits for itself."""

    name: str
    steps: tuple[EnsembleStep, ...]
    order: tuple[int, ...]
    """The steps, each after those whose outputs it takes; otherwise as the configuration has them."""
    producers: Mapping[str, int]
    """The step that gives each tensor; the ensemble's inputs are not in it."""

    def runs_for(self, outputs: Collection[str]) -> tuple[StepRun, ...]:
        """The steps that ``outputs`` of the ensemble need, and nothing else, in their order."""
        needed = set(outputs)
        runs: list[StepRun] = []
        for index in reversed(self.order):
            step = self.steps[index]
            wanted = {theirs: ours for theirs, ours in step.output_map.items() if ours in needed}
            if wanted:
                needed.update(step.input_map.values())
                runs.append(StepRun(index, wanted, self._sources(index), step.input_map))
        return tuple(reversed(runs))

    def _sources(self, index: int) -> frozenset[int]:
        taken = self.steps[index].input_map.values()
        return frozenset(self.producers[tensor] for tensor in taken if tensor in self.producers)


def graph_of(config: ModelConfig) -> EnsembleGraph:
    """The graph that the configuration of an ensemble describes, without a look at its models.

    Raises InvalidArgument naming the tensor that has no producer, several of them or no use, or the steps that wait
    for each other.
    """
    where, steps = f"in ensemble {config.name}", config.ensemble_steps
    inputs = {spec.name for spec in config.inputs}
    producers = _producers(where, steps, inputs)
    for index, step in enumerate(steps):
        for taken in step.input_map.values():
            if taken not in producers and taken not in inputs:
                raise InvalidArgument(
                    f"{where}, ensemble tensor {taken} that step {index} of model {step.model_name} takes has no "
                    "producer: it must be an input of the ensemble or be in the output_map of another step"
                )
    _refuse_unused(where, config, producers)
    return EnsembleGraph(config.name, steps, _ordered(where, steps, producers), producers)


def check_models(graph: EnsembleGraph, config: ModelConfig, models: Sequence[ModelSignature]) -> None:
    """Raises InvalidArgument when the steps do not fit ``models``, which are those of the steps in their order."""
    where = f"in ensemble {config.name}"
    for step, model in zip(graph.steps, models, strict=True):
        if config.max_batch_size > model.max_batch_size:
            raise InvalidArgument(
                f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but it contains model "
                f"{step.model_name} which only allows maximum batch size to be {model.max_batch_size}: write "
                f"max_batch_size: {model.max_batch_size}"
            )
        _check_mapping(where, "input", step.model_name, step.input_map, model.inputs)
        _check_mapping(where, "output", step.model_name, step.output_map, model.outputs)
        _check_all_mapped(where, step, model)
    _check_optional(where, config, graph, models)
    _check_agreement(where, config, graph, models)


# -- the graph by itself ----------------------------------------------------------------------------------------------


def _producers(where: str, steps: Sequence[EnsembleStep], inputs: Collection[str]) -> dict[str, int]:
    producers: dict[str, int] = {}
    for index, step in enumerate(steps):
        for given in step.output_map.values():
            if given in inputs:
                raise InvalidArgument(
                    f"{where}, ensemble tensor {given} is an input of the ensemble and an output of model "
                    f"{step.model_name} in step {index}: call one of them otherwise"
                )
            if given in producers:
                raise InvalidArgument(
                    f"{where}, ensemble tensor {given} is given by several outputs, in steps {producers[given]} and "
                    f"{index}: each must have a name of its own"
                )
            producers[given] = index
    return producers


def _refuse_unused(where: str, config: ModelConfig, producers: Mapping[str, int]) -> None:
    outputs = {spec.name for spec in config.outputs}
    missing = next((spec.name for spec in config.outputs if spec.name not in producers), None)
    if missing is not None:
        raise InvalidArgument(f"{where}, output {missing} of the ensemble is in the output_map of no step")
    used = outputs.union(*(step.input_map.values() for step in config.ensemble_steps))
    unused = next((name for name in (*(spec.name for spec in config.inputs), *producers) if name not in used), None)
    if unused is not None:
        raise InvalidArgument(
            f"{where}, ensemble tensor {unused} is unused: map it to an input of a step, make it an output of the "
            "ensemble, or remove it"
        )


def _ordered(where: str, steps: Sequence[EnsembleStep], producers: Mapping[str, int]) -> tuple[int, ...]:
    order: list[int] = []
    present: set[int] = set()
    waiting = {
        index: {producers[name] for name in step.input_map.values() if name in producers}
        for index, step in enumerate(steps)
    }
    while waiting:
        ready = [index for index, sources in waiting.items() if sources <= present]
        if not ready:
            names = ", ".join(f"{index} ({steps[index].model_name})" for index in waiting)
            raise InvalidArgument(f"{where}, circular dependency: the steps {names} wait for each other's outputs")
        order += ready
        present.update(ready)
        for index in ready:
            del waiting[index]
    return tuple(order)


# -- the graph and its models -----------------------------------------------------------------------------------------


def _check_mapping(
    where: str, kind: str, model_name: str, mapping: Mapping[str, str], specs: Sequence[TensorSpec]
) -> None:
    known = [spec.name for spec in specs]
    for theirs, ours in mapping.items():
        if theirs not in known:
            raise InvalidArgument(
                f"{where}, ensemble tensor {ours} is mapping to non-existing {kind} {theirs} in model {model_name}; "
                f"its {kind}s are {', '.join(known)}"
            )


def _check_all_mapped(where: str, step: EnsembleStep, model: ModelSignature) -> None:
    for spec in model.inputs:
        if not spec.optional and spec.name not in step.input_map:
            raise InvalidArgument(
                f"{where}, input {spec.name} in model {step.model_name} is not mapped to any ensemble tensors"
            )


def _check_optional(where: str, config: ModelConfig, graph: EnsembleGraph, models: Sequence[ModelSignature]) -> None:
    """What a request may leave out must not be what a step cannot do without."""
    optional = {spec.name for spec in config.inputs if spec.optional}
    for step, model in zip(graph.steps, models, strict=True):
        for spec in model.inputs:
            ours = step.input_map.get(spec.name)
            if ours in optional and not spec.optional:
                raise InvalidArgument(
                    f"{where}, input {ours} of the ensemble is optional, but input {spec.name} in model "
                    f"{step.model_name} is not"
                )


@dataclass(frozen=True, slots=True)
class _Declaration:
    """What one place says of an ensemble tensor; the shape is the whole one, with the batch dimension."""

    tensor: str
    place: str
    type_name: str
    shape: tuple[int, ...]


def _check_agreement(where: str, config: ModelConfig, graph: EnsembleGraph, models: Sequence[ModelSignature]) -> None:
    first: dict[str, _Declaration] = {}
    for found in _declarations(config, graph, models):
        other = first.setdefault(found.tensor, found)
        if found.type_name != other.type_name:
            raise InvalidArgument(
                f"{where}, ensemble tensor {found.tensor}: inconsistent data type: {other.type_name} is inferred from "
                f"{other.place} while {found.type_name} is inferred from {found.place}"
            )
        if not _may_agree(found.shape, other.shape):
            raise InvalidArgument(
                f"{where}, ensemble tensor {found.tensor}: inconsistent shape: {list(other.shape)} is inferred from "
                f"{other.place} while {list(found.shape)} is inferred from {found.place}; shapes here have the batch "
                "dimension, where there is one"
            )


def _declarations(
    config: ModelConfig, graph: EnsembleGraph, models: Sequence[ModelSignature]
) -> Iterator[_Declaration]:
    ours = {spec.name: spec.name for spec in (*config.inputs, *config.outputs)}
    batching = config.max_batch_size > 0
    yield from _declared(f"ensemble {config.name}", ours, (*config.inputs, *config.outputs), batching)
    for step, model in zip(graph.steps, models, strict=True):
        place = f"model {step.model_name}"
        yield from _declared(place, step.input_map, model.inputs, model.batching)
        yield from _declared(place, step.output_map, model.outputs, model.batching)


def _declared(
    place: str, names: Mapping[str, str], specs: Iterable[TensorSpec], batching: bool
) -> Iterator[_Declaration]:
    for spec in specs:
        if spec.name in names:
            yield _Declaration(names[spec.name], place, spec.datatype.config_name, spec.wire_shape(batching))


def _may_agree(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether a tensor can have both shapes; what one of them leaves open is seen when a request runs."""
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))
