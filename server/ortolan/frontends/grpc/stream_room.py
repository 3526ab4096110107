"""How much of one gRPC stream may be inside the server: its next request is read only while there is room.

A request is inside until its answer was handed to the connection. Until it is answered it counts with its own bytes,
and not less than its answer will likely have; then with those of its answer. So a client that does not read is not
read from either, and one that reads slowly holds a bounded number of answers in the server's memory.
"""

import asyncio

MOST_INSIDE = 1024
"""So many requests of one stream may be inside."""
MOST_BYTES = 64 << 20
"""So many bytes may be inside when the next request is read. One request always may, whatever it has."""
FIRST_GUESS_BYTES = 1 << 20
"""What an answer is taken for before there has been any."""


class StreamRoom:
    """Lives on the event loop. Only the one task that enters requests may wait for ``free``."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._running = 0
        self._running_bytes = 0
        self._answered = 0
        self._answered_bytes = 0
        self._likely_bytes = FIRST_GUESS_BYTES
        self._changed = asyncio.Event()

    @property
    def has_room(self) -> bool:
        inside = self._running + self._answered
        if not inside:
            return True
        running_bytes = max(self._running_bytes, self._running * self._likely_bytes)
        return inside < MOST_INSIDE and running_bytes + self._answered_bytes < self._most_bytes

    async def free(self) -> None:
        """Return as soon as there is room for one more."""
        while not self.has_room:
            self._changed.clear()
            await self._changed.wait()

    def enter(self, request_bytes: int) -> None:
        """A request is begun."""
        self._running += 1
        self._running_bytes += request_bytes

    def answer(self, request_bytes: int, answer_bytes: int) -> None:
        """A request's answer is there, and waits until it can be handed over."""
        self._running -= 1
        self._running_bytes -= request_bytes
        self._answered += 1
        self._answered_bytes += answer_bytes
        # One large answer, or some small ones, do not decide for ever what is likely.
        self._likely_bytes = max(answer_bytes, self._likely_bytes * 3 // 4)
        self._changed.set()

    def leave(self, answer_bytes: int) -> None:
        """An answer was handed over."""
        self._answered -= 1
        self._answered_bytes -= answer_bytes
        self._changed.set()
