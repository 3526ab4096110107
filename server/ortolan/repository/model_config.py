"""The model configuration in our words: frozen, and valid by existing.

``config_file`` reads it from ``config.pbtxt`` and renders it back; ``config_completion`` fills what the file leaves
out. The words are Triton's (``model_config.proto``).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.repository.ragged_config import BatchInput, BatchOutput
from ortolan.repository.rate_limiter_config import NO_RATE_LIMITER, RateLimiterConfig
from ortolan.repository.sequence_config import SequenceBatching


@dataclass(frozen=True, slots=True)
class LatestVersions:
    """Serve the ``count`` versions with the highest numbers."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class AllVersions:
    """Serve every version there is."""


@dataclass(frozen=True, slots=True)
class SpecificVersions:
    """Serve these versions, where they are there."""

    numbers: tuple[int, ...]


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


class InstanceKind(enum.Enum):
    """Where the instances of a group go; the values are Triton's numbers."""

    AUTO = 0
    GPU = 1
    CPU = 2
    MODEL = 3


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """``count`` instances on the CPU, or ``count`` on each GPU of ``gpus``. A count of 0 is not decided yet."""

    name: str = ""
    kind: InstanceKind = InstanceKind.AUTO
    count: int = 0
    gpus: tuple[int, ...] = ()
    rate_limiter: RateLimiterConfig = NO_RATE_LIMITER


class TimeoutAction(enum.Enum):
    """What happens to a request whose time runs out in the queue; the values are Triton's numbers."""

    REJECT = 0
    DELAY = 1


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How one priority level queues; 0 means no limit."""

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_us: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


def asks_for_own_batches(preferred_batch_sizes: tuple[int, ...], max_queue_delay_us: int, max_batch_size: int) -> bool:
    """Whether sizes or a delay are asked for; ``[max_batch_size]`` alone is what Triton prints where neither is."""
    return preferred_batch_sizes not in ((), (max_batch_size,)) or max_queue_delay_us > 0


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """The ``dynamic_batching`` block. ``explicit`` is whether the file asks for sizes or a delay of its own."""

    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policies: Mapping[int, QueuePolicy] = field(default_factory=dict)
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An execution accelerator: ``tensorrt``, ``cuda``, ``openvino``, …, with its parameters."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Optimization:
    """The ``optimization`` block, as far as ONNX Runtime has a use for it."""

    graph_level: int = 0
    gpu_accelerators: tuple[Accelerator, ...] = ()
    cpu_accelerators: tuple[Accelerator, ...] = ()
    cuda_graphs: bool = False


class WarmupData(enum.Enum):
    """What a warm-up input is filled with."""

    ZERO = "zero"
    RANDOM = "random"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a warm-up sample; ``file`` is the name of a file in the model's ``warmup`` directory."""

    spec: TensorSpec
    data: WarmupData
    file: str = ""


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """Requests that run on every instance before the version is ready."""

    name: str
    batch_size: int
    count: int
    inputs: tuple[WarmupInput, ...]


NEWEST_VERSION = -1


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One model of an ensemble, and how its tensors are called there: name in the model → name in the ensemble."""

    model_name: str
    model_version: int = NEWEST_VERSION
    input_map: Mapping[str, str] = field(default_factory=dict)
    output_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The configuration of one model."""

    name: str
    platform: str = ""
    backend: str = ""
    max_batch_size: int = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    version_policy: VersionPolicy = LatestVersions()
    instance_groups: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    sequence_batching: SequenceBatching | None = None
    batch_inputs: tuple[BatchInput, ...] = ()
    batch_outputs: tuple[BatchOutput, ...] = ()
    default_model_filename: str = ""
    cc_model_filenames: Mapping[str, str] = field(default_factory=dict)
    """Files for single kinds of GPU, by compute capability; none is loaded, and where one would be, nothing is."""
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    optimization: Optimization = Optimization()
    warmup: tuple[WarmupSample, ...] = ()
    op_library_filenames: tuple[str, ...] = ()
    ensemble_steps: tuple[EnsembleStep, ...] = ()
    """The models that an ensemble asks; none for a model with a graph of its own."""
    first_response_bounds_ms: tuple[float, ...] = ()
    """The buckets of Triton's histogram of first responses, ascending; none for the usual ones."""
    response_cache: bool = False
    """Whether answers may be kept, and given again to the same request."""
    completed: bool = False
    """Whether inputs, outputs or the batch size came from the graph instead of a file."""
    warnings: tuple[str, ...] = ()
    """What the file asks for and this server does not do, by field name; told to the operator at load."""
    declared: bytes = b""
    """The serialised ``ModelConfig`` message as the file has it, so that fields we only pass on are shown back."""
    file_sha256: str = field(default="", compare=False)
    """The hash of the file as it was read; "" for a configuration that is from no file."""

    @property
    def is_ensemble(self) -> bool:
        return bool(self.ensemble_steps)

    @property
    def batch_input_names(self) -> tuple[str, ...]:
        """The graph's inputs that the server makes of each batch."""
        return tuple(name for each in self.batch_inputs for name in each.targets)

    @property
    def batch_output_names(self) -> tuple[str, ...]:
        """The outputs that are dealt out by the shapes of an input, instead of row by row."""
        return tuple(name for each in self.batch_outputs for name in each.targets)

    @property
    def signature(self) -> ModelSignature:
        splits = self.parameters.get("oversize_requests") == "split"
        sequences = self.sequence_batching is not None
        return ModelSignature(self.name, self.max_batch_size, self.inputs, self.outputs, splits, sequences)
