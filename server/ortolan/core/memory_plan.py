"""What to do so that a load fits into the memory budget: nothing, unload some models, wait, or refuse it. Pure."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ortolan.core.memory_amount import shown

_MOST_NAMED = 8


class Hold(enum.Enum):
    """Why a model's memory is held; the values say it to people."""

    IDLE = "idle"
    BUSY = "in use"
    LOADING = "being loaded"
    LEAVING = "being unloaded"
    CHANGING = "about to be used or changed"
    BESIDE = "needed beside it"
    PINNED = "pinned"
    SENT = "sent by a client"
    SEQUENCES = "has open sequences"


@dataclass(frozen=True, slots=True)
class Holding:
    """The memory that one model holds; ``used_s`` is when it was last asked."""

    name: str
    size_bytes: int
    hold: Hold
    used_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fits:
    """The load may begin."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload these models, which are not asked at the moment or, of those that are, were not asked for longest."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """There will be room, when those are gone that leave; or there may be, once others serve and can be unloaded."""

    certain: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no room, and nothing that could be unloaded for it."""


@dataclass(frozen=True, slots=True)
class EvictionRule:
    """What may be unloaded for another model."""

    idle: bool = True
    busy: bool = False
    """Whether also what is being asked, once it has answered: clients do not notice where it is loaded on demand."""


def plan(
    need_bytes: int, budget_bytes: int, holdings: Sequence[Holding], rule: EvictionRule
) -> Fits | Evict | Wait | Refuse:
    """What to do so that ``need_bytes`` more fit into ``budget_bytes``, beside what ``holdings`` hold."""
    missing = need_bytes + sum(each.size_bytes for each in holdings) - budget_bytes
    if missing <= 0:
        return Fits()
    missing -= _size(holdings, Hold.LEAVING)
    if missing <= 0:
        return Wait(certain=True)
    idle = _oldest_first(holdings, Hold.IDLE) if rule.idle else []
    busy = _oldest_first(holdings, Hold.BUSY) if rule.busy else []
    chosen: list[str] = []
    for each in (*idle, *busy):
        if missing <= 0:
            break
        chosen.append(each.name)
        missing -= each.size_bytes
    if missing <= 0:
        return Evict(tuple(chosen))
    soon = _size(holdings, Hold.LOADING) + _size(holdings, Hold.CHANGING)
    return Wait(certain=False) if rule.busy and missing <= soon else Refuse()


def refusal(model: str, need_bytes: int, budget_bytes: int) -> str:
    """Why ``model`` is refused: what it needs, and what there may be. Clients are told, who may know no other model."""
    return (
        f"model '{model}' needs {shown(need_bytes)} of memory, and the models' memory budget is {shown(budget_bytes)}, "
        "of which others hold the rest. Unload a model, or raise --model-memory-budget."
    )


def holders(holdings: Iterable[Holding]) -> str:
    """Who has the memory, for the operator."""
    held = sorted((each for each in holdings if each.size_bytes), key=lambda each: -each.size_bytes)
    named = [f"'{each.name}' {shown(each.size_bytes)} ({each.hold.value})" for each in held[:_MOST_NAMED]]
    if len(held) > _MOST_NAMED:
        rest = held[_MOST_NAMED:]
        named.append(f"{len(rest)} others {shown(sum(each.size_bytes for each in rest))}")
    return ", ".join(named) or "nobody"


def _size(holdings: Iterable[Holding], hold: Hold) -> int:
    return sum(each.size_bytes for each in holdings if each.hold is hold)


def _oldest_first(holdings: Iterable[Holding], hold: Hold) -> list[Holding]:
    return sorted((each for each in holdings if each.hold is hold), key=lambda each: each.used_s)
