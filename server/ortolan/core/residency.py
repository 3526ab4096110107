"""Which models are in memory: the budget, what is unloaded for it or for being idle, and what requests bring back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from ortolan.core.ensembles import step_models
from ortolan.core.evictions import Evictions
from ortolan.core.idle_models import IdleModels
from ortolan.core.load_threads import LoadThreads
from ortolan.core.memory_budget import MemoryBudget
from ortolan.core.memory_plan import EvictionRule
from ortolan.core.model_loader import read_config
from ortolan.core.model_records import UNLOADED, IndexEntry, Model
from ortolan.core.on_demand import OnDemand
from ortolan.core.repository_view import RepositoryView
from ortolan.core.served_version import ServedVersion
from ortolan.core.version_state import VersionState
from ortolan.errors import OrtolanError, Unavailable

_NEVER_LOADED = f"{UNLOADED}: loads on demand"
_DEEPEST_NESTING = 32


@dataclass(frozen=True, slots=True)
class ResidencyRules:
    """What the operator decides. Times are seconds, 0 for never; the budget is bytes, 0 for any amount."""

    budget_bytes: int = 0
    may_unload: bool = True
    """Whether models may be unloaded for others. Where nothing could load them again, the others are refused."""
    on_demand: bool = False
    wait_s: float = 30.0
    unload_idle_s: float = 0.0
    shrink_idle_s: float = 0.0
    pinned: frozenset[str] = frozenset()


NO_RULES = ResidencyRules()


class Residency:
    """Lives on the event loop."""

    def __init__(
        self,
        models: Mapping[str, Model],
        view: RepositoryView,
        threads: LoadThreads,
        rules: ResidencyRules,
        retiring: Callable[[], Iterable[ServedVersion]],
        unload: Callable[[Model, str], None],
        find: Callable[[str, str], ServedVersion],
        load: Callable[[str], Awaitable[None]],
    ) -> None:
        """``models`` are all there are, as they come and go; ``unload`` unloads what serves of one, for a reason;
        ``find`` and ``load`` are as in ``OnDemand``.
        """
        self.rules = rules
        self._models = models
        self._view = view
        self._threads = threads
        self._load = load
        self._withheld: set[str] = set()
        self._demand = OnDemand(find, self._is_absent, self._bring_back, rules.wait_s)
        self.evictions = Evictions(
            models, retiring, unload, self._demand.is_awaited, rules.pinned, on_demand=rules.on_demand
        )
        rule = EvictionRule(idle=rules.may_unload, busy=rules.on_demand)
        self.memory = MemoryBudget(rules.budget_bytes, self.evictions.census, self._make_room, rule)
        self.idle = IdleModels(
            models, self.evictions, rules.unload_idle_s, rules.shrink_idle_s, self.memory.meter.give_back
        )

    async def bring(self, name: str, version: str, deadline_ns: int = 0) -> ServedVersion:
        """As ``OnDemand.bring``, of a model that may be called by another name of it, too."""
        return await self._demand.bring(self._view.full_name(name), version, deadline_ns)

    async def watch(self) -> None:
        """Look after idle models, for ever."""
        await self.idle.watch()

    def may_load(self, name: str, version: str) -> bool:
        """Whether a request for the version, "" for any, would have the model loaded, with hope."""
        full_name = self._view.full_name(name)
        if not self._is_absent(full_name) or self._demand.is_paused(full_name):
            return False
        return not version or version in (str(each.number) for each in self._view.listing.models[full_name].versions)

    def loadable(self) -> list[str]:
        """The models that requests would have loaded."""
        return [name for name in self._view.listing.models if self._is_absent(name)]

    def excuses(self, model: Model) -> bool:
        """Whether it does not matter that nothing of the model is ready."""
        return self.rules.on_demand and model.newest is None and model.name not in self.rules.pinned

    def rests(self, name: str) -> bool:
        """Whether the model need not be loaded when its files change: nobody has it loaded. It may be tried anew."""
        model = self._models.get(name)
        if not self.rules.on_demand or name in self.rules.pinned:
            return False
        self._demand.forgive(name)
        return model is None or (model.newest is None and not model.holders)

    def withhold(self, name: str) -> None:
        """A client unloads the model: it stays unloaded until a client loads it."""
        if name in self._view.listing.models:
            self._withheld.add(name)

    def allow(self, name: str) -> None:
        """A client loads the model."""
        self._withheld.discard(name)
        self._demand.forgive(name)

    def absent_entry(self, name: str) -> IndexEntry:
        """The index line of a model that was never loaded."""
        if not self.rules.on_demand or name in self._withheld:
            return IndexEntry(name)
        return IndexEntry(name, "", VersionState.UNAVAILABLE.value, _NEVER_LOADED)

    def gone(self, version_bytes: int) -> None:
        """A version that was retired holds nothing any more."""
        self.memory.meter.freed(version_bytes)
        self.memory.changed()
        # Tens of milliseconds for a large model.
        asyncio.get_running_loop().run_in_executor(None, self.memory.meter.give_back)

    def _make_room(self, name: str, other: str) -> None:
        # It is the server now that unloads it, whatever a client asked before its ensembles had it loaded again.
        self._withheld.discard(name)
        self.evictions.make_room(name, other)

    def _is_absent(self, name: str) -> bool:
        if not self.rules.on_demand or name in self._withheld or name not in self._view.listing.models:
            return False
        model = self._models.get(name)
        return model is None or model.newest is None

    async def _bring_back(self, name: str) -> None:
        if self._withheld and (step := await self._withheld_step(name)):
            raise Unavailable(f"it needs model '{step}', which a client has unloaded; load that again")
        await self._load(name)

    async def _withheld_step(self, name: str, depth: int = 0) -> str:
        """A model that the ensemble ``name`` needs and a client unloaded; "" for none."""
        entry = self._view.listing.models.get(name)
        if entry is None or depth > _DEEPEST_NESTING:
            return ""
        try:
            config = await self._threads.run(read_config, entry)
        except OrtolanError:
            return ""  # Its load will say what is wrong.
        for step in dict.fromkeys(step_models(config, entry, self._view.listing)):
            model = self._models.get(step)
            if step in self._withheld and (model is None or model.newest is None):
                return step
            if deeper := await self._withheld_step(step, depth + 1):
                return deeper
        return ""
