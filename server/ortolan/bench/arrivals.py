"""When the requests of an open loop are due: independent of each other, as those of many clients are."""

import random
from collections.abc import Iterator


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """The moments of a Poisson process of ``rate`` per second, from 0 to ``seconds``; the same for the same seed."""
    draw = random.Random(seed).expovariate  # noqa: S311 - nothing is kept secret by it
    moment = draw(rate)
    while moment < seconds:
        yield moment
        moment += draw(rate)
