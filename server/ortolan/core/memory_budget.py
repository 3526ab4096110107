"""Room for models: who may load now, who has to go for it, and what is refused. Lives on the event loop."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ortolan.core.memory_meter import MemoryMeter, MemoryUse
from ortolan.core.memory_plan import Evict, EvictionRule, Fits, Hold, Holding, Refuse, Wait, holders, plan, refusal
from ortolan.errors import OutOfMemory

# How long a load waits for models that are on their way out: one whose run hangs may never be gone.
_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
# A load that finds it needs more than it was given room for holds up those in line; it does not wait long for others.
_CONFIRMING_S = 5.0
# Nobody tells when a model is not in use any more.
_LOOK_AGAIN_S = 0.05

Census = Callable[[str], Sequence[Holding]]
"""The memory of the models that are there, or on their way out, as the model sees them that is to be loaded."""
Evicting = Callable[[str, str], None]
"""Unloads the first model, for the sake of the second."""


class Claim:
    """The memory of one load: from when it may begin to when its model is in service, or the load has failed."""

    def __init__(self, budget: "MemoryBudget", name: str) -> None:
        self.name = name
        self.use = MemoryUse()
        self.confirmed = False
        """Whether there is room for what was measured: from here on it is as good as in service."""
        self._budget = budget

    async def reserve(self, expected_bytes: int) -> None:
        """Return once there is room for what is expected. Raises OutOfMemory when there is none to be had."""
        await self._budget.reserve(self, expected_bytes)

    async def confirm(self) -> None:
        """Return if there is room for what was measured, too. Raises OutOfMemory; the caller lets go of the model.

        Also where there is room once a load beside it is through, which looks for it when it confirms itself: both are
        in memory by now, and would wait for each other.
        """
        await self._budget.confirm(self)


class MemoryBudget:
    """The memory that all models may hold together."""

    def __init__(
        self, limit_bytes: int, census: Census, evict: Evicting, rule: EvictionRule, meter: MemoryMeter | None = None
    ) -> None:
        """``limit_bytes`` 0: any amount; loads are measured all the same."""
        self.limit_bytes = limit_bytes
        self.meter = meter or MemoryMeter()
        self._census = census
        self._evict = evict
        self._rule = rule
        self._claims: set[Claim] = set()
        # Who asked first is served first, or small models would keep a large one out.
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()

    @contextmanager
    def claim(self, name: str) -> Iterator[Claim]:
        """The claim of a load of the model ``name``, for as long as it goes on."""
        claim = Claim(self, name)
        self._claims.add(claim)
        try:
            yield claim
        finally:
            self._claims.discard(claim)
            self.changed()

    def changed(self) -> None:
        """Somebody holds less now, or may be unloaded now."""
        self._changed.set()

    def holdings(self, but_for: Claim | None = None) -> list[Holding]:
        """Who holds how much. A model that loads counts with what it needs from when there is room for it."""
        others = (claim for claim in self._claims if claim is not but_for)
        loading = [Holding(claim.name, claim.use.size_bytes, Hold.LOADING) for claim in others]
        return [*self._census(but_for.name if but_for else ""), *loading]

    async def reserve(self, claim: Claim, expected_bytes: int) -> None:
        if self.limit_bytes:
            async with self._line:
                await self._make_room(claim, expected_bytes, _PATIENCE_S)
                claim.use = MemoryUse(expected_bytes)
        else:
            claim.use = MemoryUse(expected_bytes)

    async def confirm(self, claim: Claim) -> None:
        if self.limit_bytes:
            await self._make_room(claim, claim.use.size_bytes, _CONFIRMING_S, confirming=True)
        claim.confirmed = True

    async def _make_room(self, claim: Claim, need_bytes: int, patience_s: float, confirming: bool = False) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        while True:
            self._changed.clear()
            holdings = self.holdings(but_for=claim)
            step = plan(need_bytes, self.limit_bytes, holdings, self._rule)
            waits_for_others = isinstance(step, Wait) and not step.certain
            if isinstance(step, Fits) or (confirming and waits_for_others and self._others_will_confirm(claim)):
                return
            if isinstance(step, Evict):
                for name in step.names:
                    self._evict(name, claim.name)
                continue
            longest_s = _PATIENCE_S if isinstance(step, Wait) and step.certain else patience_s
            if isinstance(step, Refuse) or loop.time() >= start_s + longest_s:
                _log.warning("model '%s' does not fit into the memory budget: %s", claim.name, holders(holdings))
                raise OutOfMemory(refusal(claim.name, need_bytes, self.limit_bytes))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_AGAIN_S)

    def _others_will_confirm(self, claim: Claim) -> bool:
        return any(each.use.size_bytes and not each.confirmed for each in self._claims if each is not claim)
