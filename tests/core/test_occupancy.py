"""When a version closes that others are inside of."""

import asyncio

import pytest

from ortolan.core.occupancy import Occupancy
from ortolan.errors import Unavailable


async def test_an_empty_one_closes_at_once_and_once() -> None:
    closed: list[bool] = []
    occupancy = Occupancy(lambda: closed.append(True))
    occupancy.close_when_empty()
    occupancy.close_when_empty()
    assert closed == [True]
    with pytest.raises(Unavailable), occupancy.inside():
        pass


async def test_it_closes_when_the_last_has_left_and_lets_others_in_until_then() -> None:
    closed: list[bool] = []
    occupancy = Occupancy(lambda: closed.append(True))
    occupancy.enter()
    occupancy.close_when_empty()
    with occupancy.inside():
        occupancy.leave()
        assert not closed
    assert closed == [True]


async def test_emptied_waits_for_those_inside_whether_it_is_to_close_or_not() -> None:
    occupancy = Occupancy(lambda: None)
    await occupancy.emptied()
    occupancy.enter()
    waiting = asyncio.create_task(occupancy.emptied())
    await asyncio.sleep(0)
    assert not waiting.done()
    occupancy.leave()
    await waiting
