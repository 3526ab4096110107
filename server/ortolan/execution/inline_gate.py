"""Whether a batch may run on the event loop: only while it costs less than a hop to a thread and back. Pure.

What a batch costs is what calibration measured. Beyond that it learns only from runs on the loop: runs in threads take
longer for reasons of their own (they wait for the interpreter), and would close the gate for good. What counts is the
processor time of the loop's thread: a run that others on the machine held up would be no faster in a thread, where the
hop would be held up as well.
"""

from collections.abc import Sequence

from ortolan.execution.cost_curve import CostCurve, CurvePoint

# After a run that stalled the loop none may for twenty times as long: stalls take 5 % of the loop's time at most.
_STALL = 10
_PAUSE_PER_STALL = 20
# After runs of one size that took too long on the whole, though none stalled; one counts as twice the limit at most.
_PAUSE_NS = 1_000_000_000
_HOPELESS_NS = 200_000_000
_NEVER_NS = 1 << 63
_MOST = 2.0
_RECENT_RUNS = 8
_WAITING = 10
# Runs on the loop take longer than calibrated: batches are put together and taken apart, and caches are cold. On a
# machine that is slow for a while a hop takes longer as well.
_DEARER = 2


class InlineGate:
    """Lets batches through that should take at most ``limit_ns``; once closed, it is tried again after a while."""

    def __init__(self, points: Sequence[CurvePoint], max_rows: int, limit_ns: int) -> None:
        self._curve = CostCurve(points, max_rows)
        self.limit_ns = limit_ns
        self._closed_until_ns = 0
        self._recent: dict[int, float] = {}
        """What runs of each size took of late, as a share of what they may."""
        self._size_closed_until_ns: dict[int, int] = {}

    def admits(self, rows: int, now_ns: int) -> bool:
        """Whether a batch of ``rows`` rows may run on the loop now."""
        if self._curve.duration_ns(rows) > self.limit_ns:
            return False
        return now_ns >= self._closed_until_ns and now_ns >= self._size_closed_until_ns.get(rows, 0)

    def observe(self, rows: int, duration_ns: int, used_ns: int, now_ns: int) -> None:
        """One run of ``rows`` rows on the loop took ``duration_ns``, and ``used_ns`` of the processor."""
        if duration_ns > _HOPELESS_NS:
            # Its cost is not what was measured: such a model never runs on the loop again.
            self._closed_until_ns = _NEVER_NS
            return
        # Time in which others ran, or the model waited for something, counts in part: the loop stood still then, too.
        used_ns = max(used_ns, duration_ns // _WAITING)
        if used_ns > _STALL * self.limit_ns:
            self._closed_until_ns = now_ns + _PAUSE_PER_STALL * used_ns
            return
        recent = self._recent.get(rows, 0.0)
        recent += (min(used_ns / (_DEARER * self.limit_ns), _MOST) - recent) / _RECENT_RUNS
        if recent > 1:
            self._size_closed_until_ns[rows] = now_ns + _PAUSE_NS
            # What is measured while the machine is busy must not count for ever: begin again from the calibration.
            recent = 0.0
        self._recent[rows] = recent
