"""Quantiles of what was seen in the last minute, as Triton's summaries have them. Pure: the time comes in.

Values are counted in buckets whose middle is within 1.6 % of every value in them, so that the counts of several
processes can be added up; a summary's own samples could not. A slot of ten seconds is dropped when it is a minute old.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

_SLOT_MS = 10_000
_SLOTS = 6
# A value has its bucket by its five leading bits behind the first.
_BITS = 5
_EXACT = 1 << (_BITS + 1)


@dataclass(slots=True)
class SlidingQuantiles:
    """Whole numbers, such as nanoseconds, by the time at which they were seen."""

    slots: dict[int, dict[int, int]] = field(default_factory=dict)
    """By number of the slot: how many values were in each bucket."""

    def see(self, value: int, now_ms: int) -> None:
        number = now_ms // _SLOT_MS
        slot = self.slots.get(number)
        if slot is None:
            slot = self.slots[number] = {}
            self._drop_before(number - _SLOTS + 1)
        bucket = _bucket(value)
        slot[bucket] = slot.get(bucket, 0) + 1

    def plus(self, more: "SlidingQuantiles") -> None:
        """Have what ``more`` saw seen here, too."""
        for number, buckets in more.slots.items():
            slot = self.slots.setdefault(number, {})
            for bucket, count in buckets.items():
                slot[bucket] = slot.get(bucket, 0) + count

    def quantiles(self, shares: Sequence[float], now_ms: int) -> list[float]:
        """The value that each of ``shares``, 0 to 1, of the values does not exceed; NaN where none was seen lately."""
        first = now_ms // _SLOT_MS - _SLOTS + 1
        counts: dict[int, int] = {}
        for slot in (slot for number, slot in self.slots.items() if number >= first):
            for bucket, count in slot.items():
                counts[bucket] = counts.get(bucket, 0) + count
        ordered = sorted(counts.items())
        return [_at(ordered, share * sum(counts.values())) for share in shares]

    def _drop_before(self, first: int) -> None:
        for number in [number for number in self.slots if number < first]:
            del self.slots[number]


def _at(ordered: Sequence[tuple[int, int]], rank: float) -> float:
    passed = 0
    for bucket, count in ordered:
        passed += count
        if passed >= rank:
            return _middle(bucket)
    return float("nan")


def _bucket(value: int) -> int:
    """Ascending with ``value``: small ones have a bucket each, larger ones share it with what begins like them."""
    if value < _EXACT:
        return max(value, 0)
    shift = value.bit_length() - _BITS - 1
    return (shift << _BITS) + (value >> shift)


def _middle(bucket: int) -> float:
    if bucket < _EXACT:
        return float(bucket)
    shift = (bucket >> _BITS) - 1
    leading = bucket - (shift << _BITS)
    return (leading + 0.5) * (1 << shift)
