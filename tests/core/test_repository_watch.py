"""When the repository is looked at: told by events of real files, by restlessness, and by time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ortolan.core.repository_watch import RepositoryWatch

SOON_S = 20
NEVER_S = 3600.0


class Looks:
    """Counts looks, and says how restless each found the repository."""

    def __init__(self, *restless: bool) -> None:
        self.count = 0
        self._restless = list(restless)
        self._more = asyncio.Condition()

    async def look(self) -> bool:
        async with self._more:
            self.count += 1
            self._more.notify_all()
        return self._restless.pop(0) if self._restless else False

    async def reach(self, count: int, meanwhile: Callable[[int], object] = lambda _: None) -> None:
        """Return once there were so many looks; ``meanwhile`` is called over and over until then."""
        async with asyncio.timeout(SOON_S), self._more:
            attempt = 0
            while self.count < count:
                meanwhile(attempt)
                attempt += 1
                try:
                    await asyncio.wait_for(self._more.wait(), 0.2)
                except TimeoutError:
                    continue


@asynccontextmanager
async def watched(looks: Looks, *roots: Path, poll_s: float = NEVER_S, quiet_s: float = 0.0) -> AsyncIterator[None]:
    task = asyncio.create_task(RepositoryWatch(roots, poll_s, quiet_s).run(looks.look))
    yield
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_without_events_there_are_looks_from_time_to_time(tmp_path: Path) -> None:
    looks = Looks()
    async with watched(looks, tmp_path, poll_s=0.02):
        await looks.reach(6)


async def test_while_something_does_not_rest_there_is_a_look_every_quiet_time(tmp_path: Path) -> None:
    looks = Looks(*[True] * 5)
    async with watched(looks, tmp_path, quiet_s=0.01):
        await looks.reach(6)


async def test_each_change_is_looked_at_also_in_what_came_with_an_earlier_one(tmp_path: Path) -> None:
    root, looks = tmp_path / "root", Looks()
    root.mkdir()
    async with watched(looks, root):
        await looks.reach(2)
        for change in range(3):
            (root / f"new{change}").mkdir()
            await looks.reach(looks.count + 1)
            before = looks.count
            # Whether the new directory is listened to already cannot be seen from here.
            await looks.reach(before + 2, lambda n, c=change: (root / f"new{c}" / f"{n}").touch())


async def test_a_root_that_comes_at_once_after_the_start_is_listened_to(tmp_path: Path) -> None:
    root, looks = tmp_path / "root", Looks()
    async with watched(looks, root):
        await looks.reach(1)
        root.mkdir()
        await looks.reach(4, lambda n: (root / f"{n}").touch())
