"""How the requests of a version are scheduled: from its configuration, its file and what its runs cost. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from ortolan.core.model_version import shapes_vary
from ortolan.execution.batch_policy import Batching
from ortolan.execution.calibration import Profile
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.devices import Placement
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.ragged_batch import RaggedForm
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.sequence_plan import DIRECT_REASON, SequencePlan
from ortolan.execution.waiting_line import LinePolicy
from ortolan.inference.datatypes import BYTES
from ortolan.repository.model_config import InstanceKind, ModelConfig


def plan_of(
    config: ModelConfig,
    profile: Profile,
    facts: ModelFacts,
    limit_s: float,
    places: Sequence[Placement],
    hop_ns: int,
) -> SchedulingPlan:
    """For a model that may run for ``limit_s`` (0 for as long as it likes), at ``places``.

    ``hop_ns`` is what a hop to an instance's thread and back costs: below that a batch is as cheap on the event loop.
    """
    dynamic = config.dynamic_batching
    rows_vary = shapes_vary(config)
    batching = Batching.of(config, profile.unsafe_because)
    on_cpu = all(place.kind is InstanceKind.CPU for place in places)
    # A run on the loop cannot be stopped by it, so its cost must not depend on what is in the request.
    max_rows = max(1, config.max_batch_size)
    texts = any(spec.datatype is BYTES for spec in config.inputs)
    inline = on_cpu and not (rows_vary or texts or facts.loops or batching.explicit or config.op_library_filenames)
    return SchedulingPlan(
        batching=batching,
        line=LinePolicy.of(dynamic),
        preserve_ordering=dynamic is not None and dynamic.preserve_ordering,
        curves=CurveBook(profile.points, max_rows, rows_vary) if profile.points else None,
        inline_gate=InlineGate(profile.points, max_rows, hop_ns) if inline and profile.points else None,
        part_rows=max_rows,
        max_execution_s=limit_s,
        ragged=RaggedForm.of(config),
    )


def with_sequences(plan: SchedulingPlan, sequences: SequencePlan | None) -> SchedulingPlan:
    """``plan`` for a model whose requests belong together, if they do."""
    if sequences is None or not sequences.direct:
        return replace(plan, sequences=sequences)
    batching = Batching(sequences.rule.rows, explicit=True, reason=DIRECT_REASON)
    return replace(plan, sequences=sequences, batching=batching)
