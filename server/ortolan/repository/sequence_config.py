"""The ``sequence_batching`` block in our words: frozen, and valid by existing."""

import enum
from dataclasses import dataclass, replace

from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import Datatype

DEFAULT_IDLE_US = 1_000_000


class ControlKind(enum.Enum):
    """What a control input tells the model of each row; the values are Triton's numbers."""

    START = 0
    READY = 1
    END = 2
    CORRID = 3

    @property
    def config_name(self) -> str:
        return f"CONTROL_SEQUENCE_{self.name}"


@dataclass(frozen=True, slots=True)
class SequenceControl:
    """An input of the graph that the server fills: one element for each row."""

    input_name: str
    kind: ControlKind
    datatype: Datatype
    false_true: tuple[float, float] = (0, 1)
    """What stands for false and for true; a CORRID has no use for them."""


@dataclass(frozen=True, slots=True)
class InitialState:
    """What a state is when its sequence starts: zeros, or the content of ``file`` in the directory initial_state."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    file: str = ""


@dataclass(frozen=True, slots=True)
class SequenceState:
    """A tensor that the server keeps for each sequence: the graph's output becomes its next input.

    ``dims`` leaves out the batch dimension of a batching model; -1 is any size.
    """

    input_name: str
    output_name: str
    datatype: Datatype
    dims: tuple[int, ...]
    initial: InitialState | None = None
    same_buffer: bool = False


@dataclass(frozen=True, slots=True)
class DirectStrategy:
    """Each sequence has its row of one instance's batch until it ends."""

    max_queue_delay_us: int = 0
    minimum_slot_utilization: float = 0.0


@dataclass(frozen=True, slots=True)
class OldestStrategy:
    """One request at a time of each candidate sequence goes to a dynamic batcher."""

    max_candidate_sequences: int = 0
    """For each instance; 0, as a file says that leaves it out, is 1."""
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """The ``sequence_batching`` block. An idle time of 0 is one that the file leaves out."""

    max_idle_us: int = 0
    controls: tuple[SequenceControl, ...] = ()
    states: tuple[SequenceState, ...] = ()
    strategy: DirectStrategy | OldestStrategy = DirectStrategy()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs that the server fills."""
        return (*(control.input_name for control in self.controls), *(state.input_name for state in self.states))

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files of initial states."""
        return tuple(state.initial.file for state in self.states if state.initial is not None and state.initial.file)


def with_defaults(batching: SequenceBatching, max_batch_size: int, model_name: str) -> SequenceBatching:
    """``batching`` as Triton completes it: the idle time, and the largest batch as the one preferred.

    Raises InvalidArgument for preferred sizes of a model without a batch dimension.
    """
    strategy = batching.strategy
    if isinstance(strategy, OldestStrategy):
        if max_batch_size == 0 and strategy.preferred_batch_sizes:
            raise InvalidArgument(
                f"model '{model_name}': sequence_batching.oldest.preferred_batch_size needs a batch dimension: set "
                "max_batch_size, or leave the preferred sizes out"
            )
        if max_batch_size and not strategy.preferred_batch_sizes:
            strategy = replace(strategy, preferred_batch_sizes=(max_batch_size,))
    return replace(batching, max_idle_us=batching.max_idle_us or DEFAULT_IDLE_US, strategy=strategy)
