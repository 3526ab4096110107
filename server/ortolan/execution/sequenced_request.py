"""One request of a sequence on its way through a version, and the batch that it is part of while it runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from ortolan.errors import Cancelled, OrtolanError, RequestTimeout
from ortolan.execution.answer import Answer
from ortolan.execution.graph_request import GraphRequest, SequenceId, SequenceTerms
from ortolan.execution.sequence_batch import Member
from ortolan.execution.sequence_plan import SequencePlan
from ortolan.execution.sequence_slots import LiveSequence, shown_id
from ortolan.execution.sequence_state import state_shapes


@dataclass(slots=True, eq=False)
class SequencedRequest:
    """One admitted request of a sequence. Times are of the monotonic clock."""

    asked: GraphRequest
    terms: SequenceTerms
    answer_to: asyncio.Future[Answer]
    enqueued_ns: int
    size_bytes: int
    plan: SequencePlan
    sequence: "LiveSequence[SequencedRequest] | None" = None
    batch: "SequenceBatch | None" = None
    """What it is part of, while that runs."""

    @property
    def shapes(self) -> object:
        """Equal for requests that may be executed together now."""
        return self.asked.shapes, state_shapes(self.plan.states, self.member.state)

    @property
    def member(self) -> Member:
        """The request with what the model has kept of its sequence."""
        kept = self.sequence.state if self.sequence is not None else {}
        return Member(self.asked, self.terms, self.plan.initial if self.terms.start else kept)


@dataclass(slots=True, eq=False)
class SequenceBatch:
    """One batch of a lane that is under way: its requests by row, over ``span`` rows."""

    lane: int
    members: Mapping[int, SequencedRequest]
    span: int
    task: "asyncio.Task[None] | None" = None

    def end_if_unwanted(self) -> None:
        """End the run when no one waits for an answer of it any more."""
        if self.task is not None and all(request.answer_to.done() for request in self.members.values()):
            self.task.cancel()


def lost_with(error: OrtolanError, sequence_id: SequenceId) -> OrtolanError:
    """Why a request fails that was behind the one that failed with ``error``."""
    if isinstance(error, RequestTimeout):
        return RequestTimeout(error.message)
    return Cancelled(
        f"a request before this one in sequence {shown_id(sequence_id)} was given up, and the sequence with it: start "
        "it again"
    )
