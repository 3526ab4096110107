"""How much of a server is in use, 0 to 1: the number to scale on. Pure.

An instance that takes whatever waits is busy with small batches long before it is full: of a model that does 500 rows a
second in batches of 16 and 100 one by one, it is busy all the time at 100 a second. So what counts is the time that the
rows would have *needed* in the best batches, by the model's measured cost curve. What is used most decides: a device, a
model's instances, or the event loop, which small models fill long before their instances.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CPU = "CPU"
# Of the window; the rest is what handing over takes.
_ALWAYS_BUSY = 0.95
# A client whose own deadline is hopeless is refused at any load.
_REFUSED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class VersionWork:
    """What one version has done since it was loaded, and how it is now. Durations are nanoseconds."""

    needed_ns: float = 0.0
    """What its rows would have needed in the best batches."""
    busy_ns: float = 0.0
    """What its instances' runs took; and below, those on the event loop."""
    inline_ns: float = 0.0
    asked: int = 0
    """Requests that ended, refused ones among them."""
    refused: int = 0
    waits_deep: bool = False
    """Whether more waits than all instances take at once."""


@dataclass(frozen=True, slots=True)
class VersionPlaces:
    """Where a version runs: how many instances on each device, and how many cores each takes there."""

    instances: Mapping[str, int]
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Look:
    """The numbers at one moment."""

    now_ns: int
    loop_ns: int
    """How long the event loop's thread has run."""
    occupied_ns: int
    """How long it has run, or waited for a core in the middle of its work (``loop_clock``)."""
    versions: Mapping[object, VersionWork]


@dataclass(slots=True)
class VersionUse:
    """What one version took of its devices in a window: as parts of the time, so that 2.0 are two instances."""

    demand: dict[str, float] = field(default_factory=dict)
    """By device: cores of the CPU, parts of a GPU."""
    room: dict[str, float] = field(default_factory=dict)
    """What its instances could take, if nobody else did."""
    is_full: bool = False
    busy: float = 0.0
    """Which part of the time its instances were busy, however well."""


@dataclass(slots=True)
class ProcessUse:
    """What one process took."""

    loop: float = 0.0
    """Which part of the time the event loop's thread was occupied."""
    loop_cores: float = 0.0
    """Which part of a core it took, without the models that ran on it."""
    places: dict[str, int] = field(default_factory=dict)
    """What each device has: cores, or 1 for a GPU."""
    versions: dict[str, VersionUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Utilization:
    """0 to 1, of all processes: of the whole server, and of each version by its key."""

    server: float = 0.0
    versions: Mapping[str, float] = field(default_factory=dict)


def use_between(looks: Sequence[Look], version: object, places: VersionPlaces) -> VersionUse:
    """What ``version`` took between the first and the last of ``looks``, which are at least two."""
    first, last = looks[0], looks[-1]
    before, after = first.versions.get(version, VersionWork()), last.versions[version]
    wall_ns = last.now_ns - first.now_ns
    count = sum(places.instances.values())
    needed = (after.needed_ns - before.needed_ns) / wall_ns
    busy = (after.busy_ns - before.busy_ns) / wall_ns / count
    asked, refused = after.asked - before.asked, after.refused - before.refused
    deep = all(work.waits_deep for look in looks if (work := look.versions.get(version)) is not None)
    overrun = deep or refused > _REFUSED_SHARE * asked
    shares = {device: number / count for device, number in places.instances.items()}
    return VersionUse(
        demand={device: needed * share * _cores(device, places) for device, share in shares.items()},
        room={device: float(number * _cores(device, places)) for device, number in places.instances.items()},
        is_full=overrun and busy >= _ALWAYS_BUSY,
        busy=min(busy, 1.0),
    )


def loop_between(first: Look, last: Look) -> tuple[float, float]:
    """Which part of the time the event loop was occupied between two looks, and which part of a core it took.

    Models that ran on it take none there: they are counted as models.
    """
    wall_ns = last.now_ns - first.now_ns
    inline_ns = sum(
        work.inline_ns - first.versions.get(key, VersionWork()).inline_ns for key, work in last.versions.items()
    )
    spent_ns = last.loop_ns - first.loop_ns
    occupied = (last.occupied_ns - first.occupied_ns) / wall_ns
    return min(occupied, 1.0), max(0.0, spent_ns - inline_ns) / wall_ns


def utilization(processes: Iterable[ProcessUse]) -> Utilization:
    """That of a server which is these processes: the loops' mean, and what all of them take of each device."""
    all_of = list(processes)
    if not all_of:
        return Utilization()
    places = {device: max(p.places.get(device, 0) for p in all_of) for device in {d for p in all_of for d in p.places}}
    versions = {key: _version_use(key, all_of, places) for key in {k for p in all_of for k in p.versions}}
    demands = dict.fromkeys(places, 0.0)
    for process in all_of:
        # The loop takes a core from the instances.
        demands[CPU] = demands.get(CPU, 0.0) + process.loop_cores
        for version in process.versions.values():
            for device, demand in version.demand.items():
                demands[device] += demand
    devices = [demands[device] / count for device, count in places.items() if count]
    loops = sum(process.loop for process in all_of) / len(all_of)
    return Utilization(min(1.0, max([loops, *devices, *versions.values()])), versions)


def process_use_of(plain: ProcessUse | Mapping[str, Any]) -> ProcessUse:
    """What came as JSON, where it did; that of this process is taken as it is."""
    if isinstance(plain, ProcessUse):
        return plain
    told = dict(plain)
    told["versions"] = {key: VersionUse(**version) for key, version in told["versions"].items()}
    return ProcessUse(**told)


def _version_use(key: str, processes: Sequence[ProcessUse], places: Mapping[str, int]) -> float:
    """What a version takes of what all its instances could have at once."""
    uses = [process.versions[key] for process in processes if key in process.versions]
    devices = {device for use in uses for device in use.room}
    room = sum(min(sum(use.room.get(device, 0.0) for use in uses), places[device]) for device in devices)
    demand = sum(sum(use.demand.values()) if not use.is_full else sum(use.room.values()) for use in uses)
    return min(1.0, demand / room) if room else 0.0


def _cores(device: str, places: VersionPlaces) -> int:
    return places.threads if device == CPU else 1
