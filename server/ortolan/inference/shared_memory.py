"""Where in a client's shared memory the elements of a tensor are, or are to be put."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SharedMemorySlice:
    """``size_bytes`` bytes from ``offset`` on, of the region that was registered as ``region``.

    Both numbers are 0 or more and below 2^64; whether the region is there and has them is found out when it is used.
    """

    region: str
    offset: int
    size_bytes: int
