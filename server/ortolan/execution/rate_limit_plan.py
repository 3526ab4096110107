"""How the rate limiter is to watch over one version's instances; made at load out of its configuration."""

from collections.abc import Sequence
from dataclasses import replace

from ortolan.execution.devices import Placement
from ortolan.execution.rate_limiter import RateLimit, RateLimiter
from ortolan.execution.resource_turns import EVERYWHERE, ResourceKey, ResourceUser
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.rate_limiter_config import NO_RATE_LIMITER


def rate_limited(plan: SchedulingPlan, places: Sequence[Placement], limiter: RateLimiter | None) -> SchedulingPlan:
    """``plan`` for instances at ``places``, whose needs ``limiter`` watches over from now on.

    Raises InvalidArgument when there is not as much of a resource as one of them needs.
    """
    if limiter is None or not any(place.rate_limiter.resources for place in places):
        return plan
    users = tuple(_user(place) for place in places)
    limiter.admit(users)
    # The event loop cannot wait for a turn.
    return replace(plan, rate_limit=RateLimit(limiter, users), inline_gate=None)


def without_effect(config: ModelConfig, limiter: RateLimiter | None) -> tuple[str, ...]:
    """What ``config`` asks of the rate limiter where there is none, in a sentence for the operator."""
    if limiter is not None or all(group.rate_limiter == NO_RATE_LIMITER for group in config.instance_groups):
        return ()
    return ("instance_group.rate_limiter has no effect without --rate-limit=execution_count",)


def _user(place: Placement) -> ResourceUser:
    needs: dict[ResourceKey, int] = {
        (EVERYWHERE if each.everywhere else place.device_id, each.name): each.count
        for each in place.rate_limiter.resources
        if each.count
    }
    return ResourceUser(place.instance_name, needs, max(1, place.rate_limiter.priority))
