import asyncio
from collections.abc import AsyncGenerator

from ortolan.frontends.grpc.status_watch import StatusWatch

SOON_S = 10.0
OFTEN_S = 0.01


class Status:
    """What a test says it is; counts how often it was looked at."""

    def __init__(self) -> None:
        self.now = 1
        self.looks = 0

    async def look(self) -> int:
        self.looks += 1
        return self.now


async def soon(statuses: AsyncGenerator[int, None]) -> int | None:
    return await asyncio.wait_for(anext(statuses, None), SOON_S)


async def test_a_watcher_is_told_what_is_and_each_change_once() -> None:
    status = Status()
    watch = StatusWatch(status.look, OFTEN_S)
    statuses = watch.statuses()
    told = []
    for status.now in (1, 2, 1):
        told.append(await soon(statuses))
    assert told == [1, 2, 1]
    watch.end()
    assert await soon(statuses) is None


async def test_one_looks_for_all_watchers() -> None:
    status = Status()
    watch = StatusWatch(status.look, OFTEN_S)
    watchers = [watch.statuses() for _ in range(100)]
    assert {await soon(each) for each in watchers} == {1}
    before = status.looks
    status.now = 2
    assert set(await asyncio.gather(*map(soon, watchers))) == {2}
    assert status.looks - before < len(watchers) / 2
    for each in watchers:
        await each.aclose()


async def test_nobody_looks_when_nobody_watches() -> None:
    status = Status()
    watch = StatusWatch(status.look, OFTEN_S)
    for _ in range(2):
        statuses = watch.statuses()
        assert await soon(statuses) == 1
        await statuses.aclose()
    assert len(asyncio.all_tasks()) <= 1 or await gone_soon()


async def gone_soon() -> bool:
    """Whether no task but the test's is left, once what was cancelled has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return not (await asyncio.wait(others, timeout=SOON_S))[1]


async def test_at_the_end_all_are_told_what_is_so_then() -> None:
    status = Status()
    watch = StatusWatch(status.look, 1000 * SOON_S)
    watchers = [watch.statuses() for _ in range(3)]
    assert {await soon(each) for each in watchers} == {1}
    status.now = 2
    watch.end()
    assert [[await soon(each) for _ in range(2)] for each in watchers] == [[2, None]] * 3
    # One that comes later is told, too.
    late = watch.statuses()
    assert [await soon(late), await soon(late)] == [2, None]
