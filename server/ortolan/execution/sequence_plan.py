"""How the sequences of one version are to be served; made at load out of its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ortolan.execution.sequence_policy import LaneRule
from ortolan.execution.sequence_state import State, initial_states
from ortolan.inference.tensor_spec import TensorSpec
from ortolan.repository.model_config import (
    DynamicBatching,
    ModelConfig,
    WarmupData,
    WarmupInput,
    asks_for_own_batches,
)
from ortolan.repository.sequence_config import DirectStrategy, OldestStrategy, SequenceControl, SequenceState

DIRECT_REASON = "direct: each sequence has its row of an instance's batch"
"""How the direct strategy batches, for people."""


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """What a scheduler of sequences is built from."""

    lanes: int
    rule: LaneRule
    batching: bool
    max_idle_ns: int
    controls: tuple[SequenceControl, ...] = ()
    states: tuple[SequenceState, ...] = ()
    initial: State = field(default_factory=dict)
    """What each state is when a sequence starts, by input."""
    direct: bool = True
    """Whether a lane composes batches of its own, which are not batched further."""

    @property
    def state_outputs(self) -> tuple[str, ...]:
        return tuple(state.output_name for state in self.states)


def sequence_plan(config: ModelConfig, instances: int, model_directory: Path) -> SequencePlan | None:
    """The plan for ``config``, complete; None where it has no sequences.

    Raises InvalidArgument when the file of an initial state is not there or does not fit.
    """
    batching = config.sequence_batching
    if batching is None:
        return None
    strategy = batching.strategy
    lanes, rule, direct = instances, LaneRule(max(1, config.max_batch_size)), isinstance(strategy, DirectStrategy)
    if isinstance(strategy, DirectStrategy):
        rule = replace(
            rule, delay_ns=strategy.max_queue_delay_us * 1000, minimum_utilization=strategy.minimum_slot_utilization
        )
    else:
        lanes, rule = instances * max(1, strategy.max_candidate_sequences), LaneRule(1)
    return SequencePlan(
        lanes=lanes,
        rule=rule,
        batching=config.max_batch_size > 0,
        max_idle_ns=batching.max_idle_us * 1000,
        controls=batching.controls,
        states=batching.states,
        initial=initial_states(batching.states, config.max_batch_size > 0, model_directory),
        direct=direct,
    )


def with_own_inputs(config: ModelConfig) -> ModelConfig:
    """``config`` as if clients sent what the server fills, so that the model can be warmed up and measured.

    Under the oldest strategy its dynamic batching is the strategy's.
    """
    batching = config.sequence_batching
    if batching is None:
        return config
    own = tuple(TensorSpec(control.input_name, control.datatype, (1,)) for control in batching.controls)
    own += tuple(TensorSpec(state.input_name, state.datatype, state.dims) for state in batching.states)
    zeros = tuple(_zeros(spec, config) for spec in own)
    warmup = tuple(replace(sample, inputs=(*sample.inputs, *zeros)) for sample in config.warmup)
    dynamic = _dynamic_batching(batching.strategy, config.max_batch_size)
    return replace(config, inputs=(*config.inputs, *own), warmup=warmup, dynamic_batching=dynamic)


def _zeros(spec: TensorSpec, config: ModelConfig) -> WarmupInput:
    return WarmupInput(replace(spec, dims=tuple(abs(size) for size in _initial_dims(spec, config))), WarmupData.ZERO)


def _initial_dims(spec: TensorSpec, config: ModelConfig) -> tuple[int, ...]:
    states = config.sequence_batching.states if config.sequence_batching else ()
    found: Mapping[str, SequenceState] = {state.input_name: state for state in states}
    state = found.get(spec.name)
    return state.initial.dims if state is not None and state.initial is not None else spec.dims


def _dynamic_batching(strategy: DirectStrategy | OldestStrategy, max_batch_size: int) -> DynamicBatching | None:
    if isinstance(strategy, DirectStrategy):
        return None
    sizes, delay_us = strategy.preferred_batch_sizes, strategy.max_queue_delay_us
    explicit = asks_for_own_batches(sizes, delay_us, max_batch_size)
    return DynamicBatching(sizes, delay_us, strategy.preserve_ordering, explicit=explicit)
