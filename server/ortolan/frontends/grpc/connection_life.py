"""How long a connection may live, be silent, and ping: decisions only; the clock comes in as an argument.

The rules and their names are gRPC's (doc/keepalive.md, proposals A8 and A9), as Triton's flags have them.
"""

import enum
import math

from ortolan.frontends.grpc.options import KeepAlive

OPENING_S = 20.0
"""So long a client may take for its preface and settings, and for each frame that is not data."""
STALLED_S = 300.0
"""So long a client may take none of the answers that wait for it."""
PATIENCE_S = 60.0
PATIENCE_BYTES = 65_536
"""So much of a request that is not whole must come in so long, if it does not become whole."""
LEAVING_S = 2.0
"""So long requests that were begun before the client heard of the end may arrive."""

_IDLE_PING_INTERVAL_S = 7200.0


class Step(enum.Enum):
    NOTHING = enum.auto()
    PING = enum.auto()
    LEAVE = enum.auto()
    CLOSE = enum.auto()


class Pace:
    """Whether one request comes at all. Times are seconds on the monotonic clock."""

    __slots__ = ("_moved_bytes", "_owed", "_since_s")

    def __init__(self, now_s: float, moved_bytes: int = 0) -> None:
        """Something is owed since ``now_s``, when ``moved_bytes`` had come."""
        self._moved_bytes = moved_bytes
        self._owed = True
        self._since_s = now_s

    @property
    def ends_s(self) -> float:
        """When it is too slow, should nothing more come."""
        return self._since_s + PATIENCE_S if self._owed else math.inf

    def too_slow(self, now_s: float, owed: bool, moved_bytes: int) -> bool:
        """``owed``: whether something is to come; ``moved_bytes``: how many have come in all."""
        if not (owed and self._owed) or moved_bytes >= self._moved_bytes + PATIENCE_BYTES:
            self._moved_bytes = moved_bytes
            self._since_s = now_s
        self._owed = owed
        return now_s >= self.ends_s


class ConnectionLife:
    """One connection's. Times are seconds on the monotonic clock."""

    def __init__(self, keep_alive: KeepAlive, now_s: float, jitter: float) -> None:
        """``jitter``, 0.9 to 1.1, spreads the ends of connections that began together."""
        self._rules = keep_alive
        self._born_s = now_s
        age_ms = keep_alive.max_connection_age_ms
        self._ends_s = now_s + jitter * age_ms / 1e3 if age_ms else math.inf
        self._left_s = math.inf
        self._pinged_s = math.inf
        self._pings_without_data = 0
        self._strikes = 0
        self._last_ping_s = -math.inf
        self._progress = 0
        self._progress_s = now_s
        self._frames = 0
        self._frame_s = now_s
        self.heard_s = now_s
        """When something came last."""
        self.opened = False
        """Whether the client has said its preface."""

    def answered(self) -> None:
        """Something was sent that the client wants: its pings until now were fair."""
        self._strikes = 0
        self._last_ping_s = -math.inf
        self._pings_without_data = 0

    def too_many_pings(self, now_s: float, calls: bool) -> bool:
        """The client sent a ping, with or without calls under way. Returns whether it was one too many."""
        rules = self._rules
        busy = calls or rules.permit_without_calls
        interval_s = rules.min_recv_ping_interval_ms / 1e3 if busy else _IDLE_PING_INTERVAL_S
        if now_s < self._last_ping_s + interval_s:
            self._strikes += 1
        self._last_ping_s = now_s
        return bool(rules.max_ping_strikes) and self._strikes > rules.max_ping_strikes

    def ponged(self) -> None:
        self._pinged_s = math.inf

    def left(self, now_s: float) -> None:
        """The client was told that the connection ends."""
        self._ends_s = math.inf
        self._left_s = now_s

    def step(
        self, now_s: float, calls: bool, waiting: bool, sent_bytes: int, within: bool = False, frames: int = 0
    ) -> tuple[Step, float]:
        """What to do now, and when to ask again.

        ``waiting``: whether data wait for the client; ``sent_bytes``: how many it has taken in all. ``within``: whether
        it has sent a part of a frame; ``frames``: how many whole ones in all.
        """
        if not within or frames != self._frames:
            self._frames = frames
            self._frame_s = now_s
        if not waiting or sent_bytes != self._progress:
            self._progress = sent_bytes
            self._progress_s = now_s
        grace_ms = self._rules.max_connection_age_grace_ms
        ends = (
            math.inf if self.opened else self._born_s + OPENING_S,
            self._pinged_s + self._rules.timeout_ms / 1e3,
            self._left_s + grace_ms / 1e3 if grace_ms else math.inf,
            self._progress_s + STALLED_S if waiting else math.inf,
            self._frame_s + OPENING_S if within else math.inf,
        )
        if now_s >= min(ends):
            return Step.CLOSE, math.inf
        if now_s >= self._ends_s:
            self.left(now_s)
            return Step.LEAVE, now_s
        ping_s = self._next_ping_s(now_s, calls)
        if now_s >= ping_s:
            self._pinged_s = now_s
            self._pings_without_data += 1
            return Step.PING, now_s
        return Step.NOTHING, min(*ends, self._ends_s, ping_s)

    def _next_ping_s(self, now_s: float, calls: bool) -> float:
        rules = self._rules
        most = rules.max_pings_without_data
        if self._pinged_s != math.inf or (most and self._pings_without_data >= most):
            return math.inf
        due_s = self.heard_s + rules.time_ms / 1e3
        return due_s if calls or rules.permit_without_calls else max(due_s, now_s + rules.time_ms / 1e3)
