"""A budget for frames that cost the peer nothing and us something.

Resets of streams, pings, settings, priorities, empty data, small updates of windows and the like each take one from it,
and more where they make more work, such as reading a request's fields in vain; it grows with time and with everything
that is answered. An honest client stays far from its end; one that floods (CVE-2019-9511 to 9518, CVE-2023-44487,
CVE-2025-8671) is told ENHANCE_YOUR_CALM and loses its connection.
"""

from ortolan.http2.faults import ConnectionFault, ErrorCode

_BYTES_PER_UPDATE = 512
# gRPC's clients widen a window once or twice with each request, long before it is answered.
_UPDATES_PER_REQUEST = 2
_MOST_EARLY_UPDATES = 4096


class FloodGuard:
    """A token bucket; ``now_s`` is what its owner's clock (seconds, monotonic) says."""

    __slots__ = ("_budget", "_early_updates", "_left", "_paid_bytes", "_per_s", "_since_s", "now_s")

    def __init__(self, budget: int, per_s: int, now_s: float) -> None:
        self._budget = float(budget)
        self._per_s = per_s
        self._left = float(budget)
        self._since_s = now_s
        self.now_s = now_s
        self._paid_bytes = 0
        self._early_updates = 0

    def request_begun(self) -> None:
        """A request came, with which windows may be updated."""
        self._early_updates = min(self._early_updates + _UPDATES_PER_REQUEST, _MOST_EARLY_UPDATES)

    def earn(self, amount: int) -> None:
        """Something was sent that the client wanted."""
        if self._left < self._budget:
            self._left = min(self._left + amount, self._budget)

    def spend(self, amount: float, what: str) -> None:
        """Raises ConnectionFault when ``amount`` is no longer there."""
        self._left -= amount
        if self._left < 0:
            grown = max(self.now_s - self._since_s, 0.0) * self._per_s
            self._left = min(self._left + grown, self._budget)
            self._since_s = self.now_s
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def spend_on_update(self, sent_bytes: int) -> None:
        """The peer updated a window: as often as it asks, or gets data, of which there were ``sent_bytes``, it may."""
        if self._early_updates:
            self._early_updates -= 1
            return
        earned = (sent_bytes - self._paid_bytes) // _BYTES_PER_UPDATE
        if earned:
            self._paid_bytes += earned * _BYTES_PER_UPDATE
            self.earn(earned)
        self.spend(1, "window updates")
