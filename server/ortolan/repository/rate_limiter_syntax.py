"""``ModelRateLimiter`` messages ⇄ RateLimiterConfig, and the rules that it obeys by itself. Pure."""

from typing import Any

from ortolan.errors import InvalidArgument
from ortolan.repository.rate_limiter_config import NO_RATE_LIMITER, RateLimiterConfig, Resource


def read(message: Any, where: str) -> RateLimiterConfig:
    """The block ``message``; ``where`` begins the text of an InvalidArgument about a resource without a name."""
    resources = tuple(Resource(each.name, each.count, getattr(each, "global")) for each in message.resources)
    place = f"{where}: instance_group.rate_limiter"
    if not all(each.name for each in resources):
        raise InvalidArgument(f"{place}: every resource must specify 'name'")
    names = [each.name for each in resources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument(f"{place}: resource '{twice}' is given twice: an instance needs so many of it at once")
    return RateLimiterConfig(resources, message.priority)


def write(group: Any, limiter: RateLimiterConfig) -> None:
    """Write ``limiter`` into the message of its instance ``group``."""
    group.ClearField("rate_limiter")
    if limiter == NO_RATE_LIMITER:
        return
    group.rate_limiter.priority = limiter.priority
    for resource in limiter.resources:
        written = group.rate_limiter.resources.add(name=resource.name, count=resource.count)
        setattr(written, "global", resource.everywhere)
