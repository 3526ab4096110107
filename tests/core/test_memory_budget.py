"""Room for loads that turn out larger than was expected of them."""

import asyncio

import pytest

from ortolan.core.memory_budget import Claim, MemoryBudget
from ortolan.core.memory_plan import EvictionRule, Hold, Holding
from ortolan.errors import OutOfMemory

MIB = 1 << 20
ON_DEMAND = EvictionRule(busy=True)


class Models:
    """What is in service, and what was unloaded for the sake of what."""

    def __init__(self) -> None:
        self.serving: dict[str, int] = {}
        self.evicted: list[tuple[str, str]] = []

    def census(self, _: str) -> list[Holding]:
        return [Holding(name, size_bytes, Hold.BUSY) for name, size_bytes in self.serving.items()]

    def evict(self, name: str, for_name: str) -> None:
        del self.serving[name]
        self.evicted.append((name, for_name))


def grown(claim: Claim, size_bytes: int) -> None:
    claim.use.size_bytes, claim.use.is_measured = size_bytes, True


async def test_loads_that_turn_out_larger_do_not_wait_for_each_other() -> None:
    """Who is through first serves, and has answered before it makes room for who is through last."""
    models = Models()
    budget = MemoryBudget(11 * MIB, models.census, models.evict, ON_DEMAND)
    with budget.claim("last") as last:
        with budget.claim("first") as first:
            await last.reserve(4 * MIB)
            await first.reserve(4 * MIB)
            grown(first, 8 * MIB)
            async with asyncio.timeout(1):
                await first.confirm()
            models.serving["first"] = 8 * MIB
        async with asyncio.timeout(1):
            await last.confirm()
    assert models.evicted == [("first", "last")]


async def test_of_loads_that_turn_out_larger_the_last_one_keeps_to_the_budget() -> None:
    """Who is through may not rely on others that are through already: nobody would make room any more."""
    models = Models()
    budget = MemoryBudget(11 * MIB, models.census, models.evict, ON_DEMAND)
    with budget.claim("last") as last, budget.claim("first") as first:
        await last.reserve(4 * MIB)
        await first.reserve(4 * MIB)
        grown(first, 8 * MIB)
        await first.confirm()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await last.confirm()


async def test_a_load_that_turns_out_larger_than_the_budget_is_refused() -> None:
    models = Models()
    budget = MemoryBudget(11 * MIB, models.census, models.evict, ON_DEMAND)
    with budget.claim("large") as large, budget.claim("beside") as beside:
        await large.reserve(4 * MIB)
        await beside.reserve(4 * MIB)
        grown(large, 12 * MIB)
        with pytest.raises(OutOfMemory, match=r"'large' needs 12\.0 MiB"):
            await large.confirm()
