"""How long something took, each time, sorted into buckets of fixed bounds: what a Prometheus histogram is. Pure.

Every request adds to five of them on the event loop, so a bucket is a number in a list, and how often something
happened is their sum.
"""

from dataclasses import dataclass, field

_US, _MS, _S = 1_000, 1_000_000, 1_000_000_000
BOUNDS_NS = (
    *(50 * _US, 100 * _US, 250 * _US, 500 * _US),
    *(1 * _MS, 2 * _MS, 3 * _MS, 5 * _MS, 7_500 * _US, 10 * _MS, 15 * _MS, 25 * _MS, 50 * _MS, 75 * _MS),
    *(100 * _MS, 250 * _MS, 500 * _MS),
    *(1 * _S, 2_500 * _MS, 5 * _S, 10 * _S, 30 * _S, 60 * _S),
)
"""The upper bound of each bucket, itself included; a last one, without a bound, follows them."""
FIRST_NS = BOUNDS_NS[0]
"""What takes no longer is in the first bucket: to compare is cheaper than to search."""


@dataclass(slots=True)
class Latencies:
    """Durations by ``BOUNDS_NS``, and their exact sum in nanoseconds."""

    ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_NS) + 1))

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def plus(self, more: "Latencies") -> None:
        """Have what ``more`` counted counted here, too."""
        self.ns += more.ns
        self.buckets = [ours + theirs for ours, theirs in zip(self.buckets, more.buckets, strict=True)]
