"""The requests of one sequence one after another, where they could overtake each other on the way to their model.

A model lets in what comes in the order in which it comes. But reading from shared memory takes one request longer than
another, and so do the steps of an ensemble; a client that does not wait for its answers, as on a stream, would then get
wrong ones. Lives on the event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    takers: int = 0
    """Who has it or waits for it."""


class SequenceTurns:
    """Whose turn it is, for each sequence of which a request is inside."""

    def __init__(self) -> None:
        self._turns: dict[Hashable, _Turn] = {}

    def are_taken(self, sequence: Hashable) -> bool:
        """Whether a request of ``sequence`` has the turn, so that others have to wait for theirs."""
        return sequence in self._turns

    @asynccontextmanager
    async def of(self, sequence: Hashable) -> AsyncIterator[None]:
        """Wait for all that came before in ``sequence``, and have all that come later wait until this is over."""
        turn = self._turns.setdefault(sequence, _Turn())
        turn.takers += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.takers -= 1
            if not turn.takers:
                del self._turns[sequence]
