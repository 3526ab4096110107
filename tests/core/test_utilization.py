"""How much of a server is in use: one case a line, with its reason."""

import pytest

from ortolan.core.utilization import (
    Look,
    ProcessUse,
    VersionPlaces,
    VersionUse,
    VersionWork,
    loop_between,
    process_use_of,
    use_between,
    utilization,
)

S = 10**9
ONE = VersionPlaces({"CPU": 1})
TWO = VersionPlaces({"CPU": 2})


def looks(*works: VersionWork, every_s: int = 5) -> list[Look]:
    return [Look(index * every_s * S, 0, 0, {"m": work}) for index, work in enumerate(works)]


def use(after: VersionWork, places: VersionPlaces = ONE, before: VersionWork = VersionWork()) -> VersionUse:  # noqa: B008
    """Of ten seconds."""
    return use_between(
        looks(before, VersionWork(waits_deep=before.waits_deep and after.waits_deep), after), "m", places
    )


def cpu(demand: float, room: float = 2.0, is_full: bool = False) -> VersionUse:
    return VersionUse({"CPU": demand}, {"CPU": room}, is_full)


# -- one version in one process


@pytest.mark.parametrize(
    ("places", "demand", "room"),
    [
        (ONE, {"CPU": 0.4}, {"CPU": 1.0}),
        # what was needed is needed once, however many could do it
        (TWO, {"CPU": 0.4}, {"CPU": 2.0}),
        # a run on four threads takes four cores
        (VersionPlaces({"CPU": 1}, threads=4), {"CPU": 1.6}, {"CPU": 4.0}),
        # of a GPU threads take nothing
        (VersionPlaces({"GPU 0": 1}, threads=4), {"GPU 0": 0.4}, {"GPU 0": 1.0}),
        # instances share the work
        (VersionPlaces({"GPU 0": 1, "GPU 1": 3}), {"GPU 0": 0.1, "GPU 1": 0.3}, {"GPU 0": 1.0, "GPU 1": 3.0}),
    ],
)
def test_what_a_version_needs_is_told_by_device(
    places: VersionPlaces, demand: dict[str, float], room: dict[str, float]
) -> None:
    found = use(VersionWork(needed_ns=4 * S, busy_ns=9 * S), places)
    assert (found.demand, found.room) == (pytest.approx(demand), room)


def test_how_busy_instances_were_is_told_beside() -> None:
    assert use(VersionWork(needed_ns=S, busy_ns=9 * S)).busy == pytest.approx(0.9)
    assert use(VersionWork(needed_ns=S, busy_ns=9 * S), TWO).busy == pytest.approx(0.45)


DEEP = VersionWork(waits_deep=True)


@pytest.mark.parametrize(
    ("before", "after", "is_full"),
    [
        # always busy, and always more waits than can be taken at once
        (DEEP, VersionWork(busy_ns=10 * S, waits_deep=True), True),
        # busy with small batches, and nobody waits for long: that is no load at all
        (VersionWork(), VersionWork(busy_ns=10 * S), False),
        # now and then many wait
        (VersionWork(), VersionWork(busy_ns=10 * S, waits_deep=True), False),
        # many wait for something else than an instance: a batch that is to grow
        (DEEP, VersionWork(busy_ns=2 * S, waits_deep=True), False),
        # always busy, and some are sent away
        (VersionWork(), VersionWork(busy_ns=10 * S, asked=100, refused=2), True),
        # somebody asked for what no server could do
        (VersionWork(), VersionWork(busy_ns=10 * S, asked=1000, refused=2), False),
        # some are sent away, but not for want of an instance
        (VersionWork(), VersionWork(busy_ns=S, asked=100, refused=50), False),
        # that was before
        (VersionWork(asked=100, refused=50), VersionWork(busy_ns=10 * S, asked=200, refused=50), False),
    ],
)
def test_full_is_where_no_more_could_be_done(before: VersionWork, after: VersionWork, is_full: bool) -> None:
    assert use(after, before=before).is_full is is_full


def test_a_version_that_was_loaded_meanwhile_began_with_nothing() -> None:
    first, last = Look(0, 0, 0, {}), Look(10 * S, 0, 0, {"m": VersionWork(needed_ns=3 * S)})
    assert use_between([first, last], "m", ONE).demand == {"CPU": pytest.approx(0.3)}


# -- the event loop


def test_the_loop_is_occupied_by_what_waits_for_a_core_and_takes_what_it_ran() -> None:
    first = Look(0, 1 * S, 1 * S, {"m": VersionWork(inline_ns=1 * S)})
    last = Look(10 * S, 5 * S, 9 * S, {"m": VersionWork(inline_ns=2 * S), "new": VersionWork(inline_ns=1 * S)})
    assert loop_between(first, last) == (pytest.approx(0.8), pytest.approx(0.2))


# -- all of it


@pytest.mark.parametrize(
    ("processes", "server", "of_m"),
    [
        ([], 0.0, None),
        # a device
        ([ProcessUse(0.1, 0.1, {"CPU": 2}, {"m": cpu(1.0)})], 0.55, 0.5),
        # the loop before the device
        ([ProcessUse(0.9, 0.1, {"CPU": 4}, {"m": cpu(0.4, room=4)})], 0.9, 0.1),
        # a model with one instance is at its end although there are more cores
        ([ProcessUse(0.1, 0.0, {"CPU": 8}, {"m": cpu(0.9, room=1)})], 0.9, 0.9),
        # several models on one device
        ([ProcessUse(0.0, 0.0, {"CPU": 2}, {"m": cpu(0.8), "n": cpu(0.6)})], 0.7, 0.4),
        # more instances than cores do no more
        ([ProcessUse(0.0, 0.0, {"CPU": 2}, {"m": cpu(1.0, room=8)})], 0.5, 0.5),
        # a model that refuses
        ([ProcessUse(0.0, 0.0, {"CPU": 2}, {"m": cpu(0.9, is_full=True)})], 1.0, 1.0),
        # never more than all
        ([ProcessUse(1.0, 1.0, {"CPU": 2}, {"m": cpu(3.0)})], 1.0, 1.0),
        # a GPU, of which its two instances cannot have more than all
        ([ProcessUse(0.1, 0.1, {"GPU 0": 1}, {"m": VersionUse({"GPU 0": 0.7}, {"GPU 0": 2.0})})], 0.7, 0.7),
        # two processes share the cores, and each has a loop
        ([ProcessUse(0.2, 0, {"CPU": 2}, {"m": cpu(0.5)}), ProcessUse(0.6, 0, {"CPU": 2}, {"m": cpu(0.3)})], 0.4, 0.4),
        # one of them has the model
        ([ProcessUse(0.1, 0.0, {"CPU": 2}, {"m": cpu(0.5)}), ProcessUse(0.1, 0.0, {"CPU": 2}, {})], 0.25, 0.25),
    ],
)  # fmt: skip
def test_what_is_used_most_decides(processes: list[ProcessUse], server: float, of_m: float | None) -> None:
    found = utilization(processes)
    assert found.server == pytest.approx(server)
    assert found.versions.get("m") == (of_m if of_m is None else pytest.approx(of_m))


def test_what_a_process_took_comes_through_json() -> None:
    plain = {
        "loop": 0.2,
        "loop_cores": 0.1,
        "places": {"CPU": 2},
        "versions": {"m": {"demand": {"CPU": 1.0}, "room": {"CPU": 2.0}, "is_full": False, "busy": 0.5}},
    }
    assert process_use_of(plain) == ProcessUse(
        0.2, 0.1, {"CPU": 2}, {"m": VersionUse({"CPU": 1.0}, {"CPU": 2.0}, False, 0.5)}
    )
