"""Loads that clients ask for: which wait, which are refused, and which go on when their client has gone."""

import asyncio

import pytest

from ortolan.core.client_loads import ClientLoads, Turn
from ortolan.errors import Unavailable


class Load:
    """One that goes on until it is told to end."""

    def __init__(self, lets_go: bool = False) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self._lets_go = lets_go

    async def __call__(self, turn: Turn) -> str:
        async with turn.begun():
            if self._lets_go:
                turn.let_go()
            self.begun.set()
            await self.end.wait()
            return "loaded"


async def test_as_many_loads_as_may_go_on_at_once_and_the_others_wait_for_their_turn() -> None:
    loads, all_of_them = ClientLoads(2), [Load() for _ in range(3)]
    tasks = [asyncio.create_task(loads.run(0, load)) for load in all_of_them]
    await all_of_them[1].begun.wait()
    assert not all_of_them[2].begun.is_set()
    all_of_them[0].end.set()
    await all_of_them[2].begun.wait()
    for load in all_of_them:
        load.end.set()
    assert await asyncio.gather(*tasks) == ["loaded"] * 3


async def test_so_many_loads_wait_at_most() -> None:
    loads, first = ClientLoads(1, most=2), Load()
    tasks = [asyncio.create_task(loads.run(0, first))]
    await first.begun.wait()
    tasks += [asyncio.create_task(loads.run(0, Load())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 loads wait already") as refusal:
        await loads.run(0, Load())
    assert refusal.value.retry_after_s
    loads.give_up()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_loads_for_requests_are_not_refused_however_many_models_are_asked_at_once() -> None:
    loads, first = ClientLoads(1, most=1, most_bytes=100), Load()
    tasks = [asyncio.create_task(loads.run(500, first))]
    await first.begun.wait()
    all_of_them = [Load() for _ in range(5)]
    tasks += [asyncio.create_task(loads.run(0, load, for_request=True)) for load in all_of_them]
    await asyncio.sleep(0)
    for load in (first, *all_of_them):
        load.end.set()
    assert await asyncio.gather(*tasks) == ["loaded"] * 6


async def test_the_files_of_loads_are_bounded_until_they_are_written() -> None:
    loads, first, second = ClientLoads(3, most_bytes=100), Load(), Load(lets_go=True)
    large = asyncio.create_task(loads.run(500, first))  # alone one may have more
    await first.begun.wait()
    with pytest.raises(Unavailable, match="loads that wait hold 500 bytes of files already and may hold 100"):
        await loads.run(1, Load())
    first.end.set()
    await large
    written = asyncio.create_task(loads.run(90, second))
    await second.begun.wait()
    first = Load()
    first.end.set()
    assert await loads.run(90, first) == "loaded"
    second.end.set()
    await written
    assert loads.waiting_bytes == 0


async def test_a_load_that_only_waits_ends_with_its_client_and_one_that_has_begun_goes_on() -> None:
    loads, first, second = ClientLoads(1), Load(), Load()
    clients = [asyncio.create_task(loads.run(7, first)), asyncio.create_task(loads.run(7, second))]
    await first.begun.wait()
    for client in clients:
        client.cancel()
    await asyncio.wait(clients)
    assert loads.waiting_bytes == 7
    first.end.set()
    third = Load()
    third.end.set()
    assert await loads.run(0, third) == "loaded"
    assert not second.begun.is_set()


async def test_a_load_that_keeps_what_it_does_before_its_place_goes_on_without_its_client_too() -> None:
    loads, may_go_on, done = ClientLoads(1), asyncio.Event(), asyncio.Event()

    async def load(turn: Turn) -> None:
        turn.keep()
        await may_go_on.wait()
        async with turn.begun():
            done.set()

    client = asyncio.create_task(loads.run(7, load))
    await asyncio.sleep(0)
    client.cancel()
    await asyncio.wait([client])
    may_go_on.set()
    await done.wait()


async def test_at_the_end_of_the_server_a_load_that_keeps_what_it_does_is_told_while_it_waits() -> None:
    loads = ClientLoads(1)

    async def load(turn: Turn) -> None:
        turn.keep()
        await asyncio.Event().wait()

    client = asyncio.create_task(loads.run(0, load))
    await asyncio.sleep(0)
    loads.close()
    with pytest.raises(Unavailable, match="the server is stopping"):
        await client


async def test_an_unload_needs_no_place_and_goes_on_without_its_client() -> None:
    loads, first, done = ClientLoads(1, most=0), Load(), asyncio.Event()

    async def unload() -> None:
        async with loads.order("m"):
            done.set()

    async with loads.order("m"):
        client = asyncio.create_task(loads.run_beside(unload()))
        await asyncio.sleep(0)
        client.cancel()
        await asyncio.wait([client])
    await done.wait()
    with pytest.raises(Unavailable, match="0 loads wait already"):
        await loads.run(0, first)


async def test_at_the_end_of_the_server_those_that_wait_are_told_at_once() -> None:
    loads, first = ClientLoads(1), Load()
    going = asyncio.create_task(loads.run(0, first))
    await first.begun.wait()
    waiting = asyncio.create_task(loads.run(0, Load()))
    await asyncio.sleep(0)
    loads.close()
    for refused in (waiting, asyncio.create_task(loads.run(0, Load()))):
        with pytest.raises(Unavailable, match="the server is stopping and loads nothing any more"):
            await refused
    first.end.set()
    assert await going == "loaded"
