"""How one version is to be scheduled; made at load out of its configuration and what was measured."""

from collections.abc import Callable
from dataclasses import dataclass

from ortolan.execution.batch_policy import Batching
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.rate_limiter import RateLimit
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.waiting_line import LinePolicy


@dataclass(frozen=True, slots=True)
class SchedulingPlan:
    """What a scheduler is built from, besides the sessions of its instances."""

    batching: Batching
    line: LinePolicy
    preserve_ordering: bool = False
    curves: CurveBook | None = None
    inline_gate: InlineGate | None = None
    """Lets batches run on the event loop; None where none may."""
    part_rows: int = 1
    """The rows of the parts of a request that is larger than a batch may be."""
    max_execution_s: float = 0.0
    """When a run is taken for hung; 0 for never."""
    sequences: SequencePlan | None = None
    """How sequences are served; None for a model without any."""
    ragged: RaggedForm | None = None
    """How batches are put together and taken apart; None where all tensors have rows."""
    rate_limit: RateLimit | None = None
    """What instances must hold while they run; None where they run whenever there is work."""
    statistics: Callable[[], ModelStatistics] = ModelStatistics
    """Makes what the version counts in."""
