"""The server as its clients see it, in however many processes: what changes all of them, and what tells of all.

Everything that a client may change goes through here by name, so that another process can have it done as well; the
core and its parts speak of their own process only.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from ortolan.core.cuda_region import CudaRegion
from ortolan.core.log_settings import LogSettings
from ortolan.core.memory_region import MemoryRegion
from ortolan.core.merged_index import merged_index, states_of
from ortolan.core.model_records import UNLOADED, IndexEntry
from ortolan.core.placed_models import served_name
from ortolan.core.served_version import ServedVersion
from ortolan.core.system_region import SystemRegion
from ortolan.core.trace_settings import TraceSettings
from ortolan.core.utilization import Utilization, process_use_of, utilization
from ortolan.core.version_state import VersionState
from ortolan.core.version_totals import (
    Totals,
    VersionNumbers,
    added,
    added_counts,
    added_errors,
    key_of,
    read_totals,
)

if TYPE_CHECKING:
    from ortolan.core.inference_core import InferenceCore

_Action = Callable[..., Awaitable[Any]]
_NO_PARAMETERS: Mapping[str, object] = MappingProxyType({})
_KINDS: Mapping[str, type[MemoryRegion]] = {kind.kind: kind for kind in (SystemRegion, CudaRegion)}

READINESS, TOTALS, INDEX = "readiness", "totals", "index"
"""What one process may be asked by others."""
READY, UNREADY, LEAVING = "ready", "unready", "leaving"
"""What it says of its readiness; one that is leaving says nothing of the others."""


class Processes(Protocol):
    """All processes of a server. Their calls raise what the actions raise, and Unavailable where none answers."""

    async def perform(self, action: str, *arguments: object) -> None:
        """Have all do it, or none as far as that can be."""

    async def gather(self, question: str) -> Sequence[Any]:
        """What each says to it, in any order; None for one that does not answer."""


class OnlyHere:
    """The one process of a server that has no other."""

    def __init__(self, act: Callable[[str, Sequence[Any]], Awaitable[Any]]) -> None:
        self._act = act

    async def perform(self, action: str, *arguments: object) -> None:
        await self._act(action, arguments)

    async def gather(self, question: str) -> Sequence[Any]:
        return [await self._act(question, ())]


@dataclass(frozen=True, slots=True)
class ToldVersion:
    """A version that this process serves, with the numbers of all."""

    version: ServedVersion
    numbers: VersionNumbers


@dataclass(frozen=True, slots=True)
class ToldServer:
    """What the metrics tell of all processes.

    ``replicas`` has what each process says of itself, by its number, and ``restarts`` how many were begun anew, where
    there are several.
    """

    versions: tuple[ToldVersion, ...]
    models_bytes: int
    budget_bytes: int
    evictions: Mapping[str, int]
    replicas: Mapping[str, Sequence[tuple[str, str, str, float]]]
    restarts: int
    is_ready: bool
    errors: Mapping[str, Mapping[str, int]]
    """How many errors clients were told, by protocol and code."""
    states: Mapping[str, int]
    """How many versions there are in each state of the index, without those that were unloaded on purpose."""
    utilization: Utilization


class WholeServer:
    """Lives on the event loop; its methods raise ``OrtolanError`` kinds only."""

    def __init__(self, core: "InferenceCore", processes: Processes | None = None) -> None:
        """Without ``processes`` there is this one only."""
        self._core = core
        self._processes = processes or OnlyHere(self.act)
        self._actions: dict[str, _Action] = {
            "load": self._load,
            "unload": core.unload,
            "place": self._place,
            "displace": self._displace,
            "trace": self._change_trace_settings,
            "log": self._change_log_settings,
            "register_system": self._register_system,
            "register_cuda": core.shared_memory.register_cuda,
            "unregister": self._unregister,
            READINESS: self._readiness,
            TOTALS: self._totals,
            INDEX: self._index,
        }
        self.tell_replica: Callable[[], Mapping[str, Any]] = dict
        """What this process says of itself for the metrics, by its number; nothing where it is alone."""

    async def act(self, action: str, arguments: Sequence[Any]) -> Any:
        """Do in this process what was asked of all."""
        return await self._actions[action](*arguments)

    # -- for frontends -------------------------------------------------------------------------------------------

    async def is_ready(self) -> bool:
        """Whether requests should be sent, to whichever process."""
        if not self._core.is_ready():
            return False
        return all(answer in (READY, LEAVING) for answer in await self._processes.gather(READINESS))

    async def statistics(self, name: str, version: str) -> list[ToldVersion]:
        """Of the versions that are asked for; of all for an empty name. Raises as the core's ``statistics`` does."""
        versions = self._core.statistics(name, version)
        return _told(versions, _summed(await self._answers(TOTALS)))

    async def told(self) -> ToldServer:
        answers = await self._answers(TOTALS)
        return ToldServer(
            tuple(_told(self._core.serving(), _summed(answers))),
            sum(answer.get("models_bytes", 0) for answer in answers),
            sum(answer.get("budget_bytes", 0) for answer in answers),
            added_counts(answer.get("evictions", {}) for answer in answers),
            {number: told for answer in answers for number, told in answer.get("replicas", {}).items()},
            sum(answer.get("restarts", 0) for answer in answers),
            is_ready=await self.is_ready(),
            errors=added_errors(answer.get("errors", {}) for answer in answers),
            states=states_of(answer["states"] for answer in answers if "states" in answer),
            utilization=utilization(process_use_of(answer["use"]) for answer in answers if "use" in answer),
        )

    async def index(self, only_ready: bool) -> list[IndexEntry]:
        """As the core's; what is not the same in all processes is told as it is where it is worst."""
        lists = [[IndexEntry(*fields) for fields in answer] for answer in await self._answers(INDEX)]
        entries = merged_index(lists)
        return [entry for entry in entries if not only_ready or entry.state == "READY"]

    async def load(self, name: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> None:
        self._core.require_control(name)
        await self._processes.perform("load", name, dict(parameters))

    async def unload(self, name: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> None:
        self._core.require_control(name)
        await self._processes.perform("unload", name, dict(parameters))

    async def place(self, name: str, url: str) -> None:
        """Load a model for a platform; raises as ``PlacedModels.place`` does."""
        await self._processes.perform("place", served_name(name), name, url)

    async def displace(self, name: str) -> None:
        """Raises as ``PlacedModels.displace`` does."""
        await self._processes.perform("displace", served_name(name), {})

    async def change_trace_settings(self, model: str, change: Mapping[str, object]) -> TraceSettings:
        """The settings after ``change``. Raises as ``trace_settings`` and ``TraceTable.changed`` do."""
        await self._processes.perform("trace", model, dict(change))
        return self._core.trace_settings(model)

    async def change_log_settings(self, change: Mapping[str, object]) -> LogSettings:
        """The settings after ``change``. Raises as ``LogControl.change`` does."""
        await self._processes.perform("log", dict(change))
        return self._core.log_control.settings

    async def register_system(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Raises as the method of ``SharedMemoryRegions`` does."""
        await self._processes.perform("register_system", name, key, offset, size_bytes)

    async def register_cuda(self, name: str, raw_handle: bytes, device: int, size_bytes: int) -> None:
        """Raises as the method of ``SharedMemoryRegions`` does."""
        await self._processes.perform("register_cuda", name, raw_handle, device, size_bytes)

    async def unregister(self, kind: type[MemoryRegion], name: str) -> None:
        """Raises as the method of ``SharedMemoryRegions`` does."""
        await self._processes.perform("unregister", kind.kind, name)

    async def _answers(self, question: str) -> list[Any]:
        return [answer for answer in await self._processes.gather(question) if answer is not None]

    # -- in this process -----------------------------------------------------------------------------------------

    async def _load(self, name: str, parameters: Mapping[str, object]) -> bool:
        """Whether something of the model served before."""
        served = any(version.name == name for version in self._core.serving())
        await self._core.load(name, parameters)
        return served

    async def _place(self, served_as: str, name: str, url: str) -> None:  # noqa: ARG002 - who keeps order looks at it
        await self._core.placed.place(name, url)

    async def _displace(self, served_as: str, parameters: Mapping[str, object]) -> None:  # noqa: ARG002 - as an unload's
        await self._core.placed.displace(served_as)

    async def _change_trace_settings(self, model: str, change: Mapping[str, object]) -> None:
        self._core.change_trace_settings(model, change)

    async def _change_log_settings(self, change: Mapping[str, object]) -> None:
        self._core.log_control.change(change)

    async def _register_system(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        self._core.shared_memory.register_system(name, key, offset, size_bytes)

    async def _unregister(self, kind: str, name: str) -> None:
        await self._core.shared_memory.unregister(_KINDS[kind], name)

    async def _readiness(self) -> str:
        if self._core.draining:
            return LEAVING
        return READY if self._core.is_ready() else UNREADY

    async def _totals(self) -> dict[str, Any]:
        residency = self._core.residency
        return {
            "versions": {key_of(v.name, v.number_text): _numbers(v) for v in self._core.serving()},
            "models_bytes": sum(holding.size_bytes for holding in residency.memory.holdings()),
            "budget_bytes": residency.memory.limit_bytes,
            "evictions": {reason: residency.evictions.counts[reason] for reason in ("budget", "idle")},
            "replicas": self.tell_replica(),
            "errors": self._core.errors.counts,
            "states": [
                (each.name, each.version, each.state) for each in self._core.known_versions() if _is_missed(each)
            ],
            "use": self._core.load_meter.use(),
        }

    async def _index(self) -> list[tuple[str, str, str, str]]:
        return [(each.name, each.version, each.state, each.reason) for each in await self._core.index(only_ready=False)]


def _is_missed(entry: IndexEntry) -> bool:
    """Not so for what was replaced, or made room for others, or was sent away: nobody need be called for that."""
    return entry.state != VersionState.UNAVAILABLE.value or not entry.reason.startswith(UNLOADED)


def _numbers(version: ServedVersion) -> VersionNumbers:
    return VersionNumbers(
        version.statistics,
        version.waiting_requests,
        version.memory.size_bytes,
        version.in_flight_requests,
        version.queue_age_s,
    )


def _summed(answers: Sequence[Mapping[str, Any]]) -> Totals:
    parts = [read_totals(answer["versions"]) for answer in answers]
    # Of a thousand versions it takes a while, in which nobody is served.
    return added(parts) if len(parts) > 1 else parts[0] if parts else {}


def _told(versions: Sequence[ServedVersion], totals: Totals) -> list[ToldVersion]:
    return [ToldVersion(each, totals.get(key_of(each.name, each.number_text)) or _numbers(each)) for each in versions]
