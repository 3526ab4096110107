"""How many bytes a port may hold for clients that do not send the rest of a request, or do not take an answer.

Whole requests are the core's, which bounds them itself. When there is too much, the connection that holds most gives
way: one client that fills the server so takes nothing from the others.
"""

from typing import Protocol

UNCOUNTED_BYTES = 65_536
"""What one connection holds below this is not counted: nearly all of them do at times."""


class Holder(Protocol):
    def let_go(self) -> int:
        """Give up the one that is largest of what is held. Returns how many bytes are held afterwards."""


class HeldBytes:
    """Shared by the connections of a port. Lives on the event loop."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._total_bytes = 0
        self._by_holder: dict[Holder, int] = {}

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    def tell(self, holder: Holder, held_bytes: int) -> None:
        """``holder`` now holds so many bytes, which may end calls: its own, or those of others who hold more."""
        self._set(holder, held_bytes)
        while self._total_bytes > self._most_bytes:
            greediest = max(self._by_holder, key=self._by_holder.__getitem__)
            self._set(greediest, greediest.let_go())

    def _set(self, holder: Holder, held_bytes: int) -> None:
        self._total_bytes += held_bytes - self._by_holder.pop(holder, 0)
        if held_bytes:
            self._by_holder[holder] = held_bytes
