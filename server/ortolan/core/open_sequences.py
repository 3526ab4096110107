"""Versions that were replaced and whose sequences go on: a sequence ends in the version in which it began.

Only what begins comes to the new version; what the old one has kept of a sequence means nothing to it. An old version
is kept until its last sequence has ended or was idle for too long, and no longer than a minute in any case: a client
that never ends its sequence must not hold two versions in memory. Lives on the event loop.
"""

import asyncio
from typing import Protocol

from ortolan.core.request_terms import sequence_of
from ortolan.core.trace import Trace
from ortolan.execution.graph_request import SequenceId
from ortolan.inference.request import InferenceRequest, InferenceResponse

LONGEST_S = 60.0


class SequenceHolder(Protocol):
    """What has to be known of a version."""

    name: str
    number_text: str

    def has_open_sequence(self, sequence_id: SequenceId) -> bool:
        """Whether further requests with this id belong to a sequence that began in it."""

    async def sequences_ended(self) -> None:
        """Return once no sequence is open in it."""

    async def infer(self, request: InferenceRequest, trace: Trace | None = None) -> InferenceResponse: ...


class OpenSequences:
    """The versions of all models that are kept for their sequences."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._kept: dict[str, dict[SequenceHolder, asyncio.Task[None]]] = {}

    def keep(self, version: SequenceHolder) -> None:
        """Let the sequences that are open in ``version`` go on in it, from this very moment."""
        kept = self._kept.setdefault(version.name, {})
        if version not in kept:
            kept[version] = asyncio.get_running_loop().create_task(version.sequences_ended())
            kept[version].add_done_callback(lambda _: self._forget(version))

    async def ended(self, version: SequenceHolder) -> None:
        """Return once ``version`` is not kept any more: at once where it never was."""
        if task := self._kept.get(version.name, {}).get(version):
            await asyncio.wait([task], timeout=self._longest_s)
            self._forget(version)

    def let_go(self, name: str) -> None:
        """Keep no version of the model ``name`` any longer: nobody serves it any more."""
        for version in tuple(self._kept.get(name, ())):
            self._forget(version)

    def let_all_go(self) -> None:
        for name in tuple(self._kept):
            self.let_go(name)

    def holder_of(self, request: InferenceRequest, serving: SequenceHolder) -> SequenceHolder | None:
        """Where ``request`` belongs that came to ``serving``: the version that its sequence began in; None for there.

        Raises nothing for parameters that are not as they should be: who answers does that.
        """
        kept = self._kept.get(serving.name)
        if not kept or serving in kept:
            return None
        terms = sequence_of(request.parameters)
        if terms is None or terms.start or serving.has_open_sequence(terms.id):
            return None
        return next((version for version in reversed(kept) if _fits(version, request, terms.id)), None)

    def _forget(self, version: SequenceHolder) -> None:
        kept = self._kept.get(version.name, {})
        if task := kept.pop(version, None):
            task.cancel()
            if not kept:
                del self._kept[version.name]


def _fits(version: SequenceHolder, request: InferenceRequest, sequence_id: SequenceId) -> bool:
    return request.model_version in ("", version.number_text) and version.has_open_sequence(sequence_id)
