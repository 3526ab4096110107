"""The ``rate_limiter`` of an instance group in our words: what each instance holds while it runs, and its weight."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """``count`` copies of something that instances share, on each device or, ``everywhere``, in the whole server."""

    name: str
    count: int
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class RateLimiterConfig:
    """``priority`` 2 means half as many turns as 1; 0 is one that the file leaves out, and means 1."""

    resources: tuple[Resource, ...] = ()
    priority: int = 0


NO_RATE_LIMITER = RateLimiterConfig()
