"""Unloading models that the server can do without for now: who may go, and what is said of them afterwards.

Who decides and who acts do so without waiting in between, so that a model is as it was when it was chosen. No request
fails: those inside are answered, by a version that new ones do not find any more.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ortolan.core import ensemble_dependencies as dependencies
from ortolan.core.memory_plan import Hold, Holding
from ortolan.core.model_records import UNLOADED, Model
from ortolan.core.served_version import ServedVersion

PIN = "pin"
"""The model parameter: 1 for a model that the server never unloads by itself."""

# What keeps a model from being unloaded, the strongest first.
_STRONGEST = (Hold.PINNED, Hold.SENT, Hold.SEQUENCES, Hold.CHANGING, Hold.BUSY, Hold.IDLE)


@dataclass
class Evictions:
    """All models of a server, as far as they may be unloaded. Lives on the event loop."""

    models: Mapping[str, Model]
    """As they come and go."""
    retiring: Callable[[], Iterable[ServedVersion]]
    unload: Callable[[Model, str], None]
    """Unloads what serves of a model, for a reason."""
    awaited: Callable[[str], bool] = lambda _: False
    """Whether requests wait for the model to be loaded."""
    pinned: Collection[str] = ()
    on_demand: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    """How many were unloaded, by why."""

    def census(self, loading: str = "") -> list[Holding]:
        """The memory of every model that serves, and of every version that retires.

        What changes together with ``loading``, a model that is to be loaded, does not become free for it.
        """
        uses = self._uses()
        beside = {loading, *dependencies.below(dependencies.dependents(loading, uses), uses)}
        found: list[Holding] = []
        for name, model in self.models.items():
            if size_bytes := sum(version.memory.size_bytes for version in model.serving()):
                hold = self.hold_of(model, uses)
                held = Hold.BESIDE if name in beside and hold is Hold.CHANGING else hold
                found.append(Holding(name, size_bytes, held, used_s(model)))
        return found + [Holding(each.name, each.memory.size_bytes, Hold.LEAVING) for each in self.retiring()]

    def hold_of(self, model: Model, uses: dependencies.Uses | None = None) -> Hold:
        """Why the model stays, or may go: its own reasons, and those of the ensembles that go with it."""
        uses = self._uses() if uses is None else uses
        holds = {self._own_hold(each) for each in self._together(model.name, uses)}
        return next(hold for hold in _STRONGEST if hold in holds)

    def make_room(self, name: str, other: str) -> None:
        """Unload the model ``name``, whose memory the model ``other`` needs."""
        self.counts["budget"] += 1
        self._evict(name, f"model '{other}' needs its memory")

    def time_out(self, name: str, idle_s: float) -> None:
        """Unload the model ``name``, which nobody has asked for ``idle_s``."""
        self.counts["idle"] += 1
        self._evict(name, f"idle for {idle_s:g} s")

    def _evict(self, name: str, why: str) -> None:
        told = "; loads on demand" if self.on_demand else ""
        model, *ensembles = self._together(name, self._uses())
        for ensemble in ensembles:
            self.unload(ensemble, f"{UNLOADED}: its model '{name}' was unloaded, {why}{told}")
        self.unload(model, f"{UNLOADED}: {why}{told}")

    def _together(self, name: str, uses: dependencies.Uses) -> list[Model]:
        """The model, and the ensembles that cannot be without it."""
        return [self.models[each] for each in (name, *dependencies.dependents(name, uses)) if each in self.models]

    def _uses(self) -> dependencies.Uses:
        return {model.name: model.uses for model in self.models.values() if model.uses}

    def _own_hold(self, model: Model) -> Hold:
        versions = model.serving()
        if model.name in self.pinned or any(is_pinned(version) for version in versions):
            return Hold.PINNED
        if model.overridden:
            # What a client sent is not in the repository to be loaded again.
            return Hold.SENT
        if any(version.live_sequences for version in versions):
            return Hold.SEQUENCES
        if model.holders or model.lock.locked() or self.awaited(model.name):
            return Hold.CHANGING
        return Hold.BUSY if any(version.in_flight_requests for version in versions) else Hold.IDLE


def is_pinned(version: ServedVersion) -> bool:
    return version.config.parameters.get(PIN) == "1"


def used_s(model: Model) -> float:
    """When the model was last asked, by the loop's clock; never before it was loaded."""
    return max((version.used_s for version in model.serving()), default=0.0)
