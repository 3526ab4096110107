"""Loads that requests begin: one for all that wait, none for each that fails."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ortolan.core.on_demand import OnDemand
from ortolan.core.served_version import ServedVersion
from ortolan.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound, OutOfMemory, QueueFull, Unavailable


class Models:
    """A repository with the model m, whose load the test lets end."""

    def __init__(self, wait_s: float = 20, most_waiting: int = 100) -> None:
        self.loaded = False
        self.loads = 0
        self.error: Exception | None = None
        self.let_end = asyncio.Event()
        self.demand = OnDemand(self.find, lambda name: name == "m" and not self.loaded, self.load, wait_s, most_waiting)

    def find(self, name: str, version: str) -> ServedVersion:
        if not self.loaded or version == "9":
            raise NotFound(f"no {name}")
        return "the version"  # type: ignore[return-value]

    async def load(self, name: str) -> None:
        assert name == "m"
        self.loads += 1
        await self.let_end.wait()
        if self.error is not None:
            raise self.error
        self.loaded = True

    def bring(self, name: str = "m", version: str = "", deadline_ns: int = 0) -> "asyncio.Task[ServedVersion]":
        return asyncio.create_task(self.demand.bring(name, version, deadline_ns))


async def test_all_who_wait_get_what_one_load_brought() -> None:
    models = Models()
    waiting = [models.bring() for _ in range(5)]
    await asyncio.sleep(0)
    assert models.demand.is_awaited("m")
    models.let_end.set()
    assert await asyncio.gather(*waiting) == ["the version"] * 5
    assert (models.loads, models.demand.is_awaited("m")) == (1, False)


async def test_a_client_that_goes_does_not_end_the_load() -> None:
    models = Models()
    gone, staying = models.bring(), models.bring()
    await asyncio.sleep(0)
    gone.cancel()
    models.let_end.set()
    assert await staying == "the version"
    assert gone.cancelled()
    assert models.loads == 1


async def test_what_is_not_there_at_all_or_not_in_that_version_is_not_waited_for() -> None:
    models = Models()
    models.let_end.set()
    with pytest.raises(NotFound):
        await models.bring("nowhere")
    with pytest.raises(NotFound):
        await models.bring(version="9")
    assert models.loads == 1


async def test_who_has_waited_long_enough_hears_of_it_and_finds_the_load_going_on() -> None:
    models = Models(wait_s=0.01)
    for _ in range(2):
        with pytest.raises(Unavailable, match="is being loaded, which takes longer") as told:
            await models.bring()
        assert told.value.retry_after_s == 5
    models.let_end.set()
    assert await models.bring() == "the version"
    assert models.loads == 1


async def test_the_deadline_of_a_request_is_its_own() -> None:
    models = Models()
    with pytest.raises(DeadlineExceeded):
        await models.bring(deadline_ns=1)
    models.let_end.set()
    assert await models.bring() == "the version"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InvalidArgument("broken"), Unavailable), (Internal("odd"), Unavailable), (OutOfMemory("full"), OutOfMemory)],
)
async def test_a_load_that_failed_is_told_for_a_while_before_it_is_tried_again(
    error: Exception, kind: type[Unavailable]
) -> None:
    models = Models()
    models.error = error
    models.let_end.set()
    for _ in range(3):
        with pytest.raises(kind, match=f"not tried again for 1 s: {error}") as told:
            await models.bring()
        assert told.value.retry_after_s == 1
    assert (models.loads, models.demand.is_paused("m")) == (1, True)
    models.demand.forgive("m")
    models.error = None
    assert await models.bring() == "the version"


async def test_it_is_tried_less_often_the_more_often_it_failed() -> None:
    models = Models()
    models.error = InvalidArgument("broken")
    models.let_end.set()
    with pytest.raises(Unavailable, match="for 1 s"):
        await models.bring()
    loop = asyncio.get_running_loop()
    end = loop.time() + 10
    while models.loads < 2:
        assert loop.time() < end
        with pytest.raises(Unavailable) as told:
            await models.bring()
    assert "for 2 s" in str(told.value)


async def test_a_fault_of_ours_is_not_dressed_up() -> None:
    models = Models()
    models.error = ZeroDivisionError()
    models.let_end.set()
    with pytest.raises(ZeroDivisionError):
        await models.bring()


async def test_only_so_many_wait() -> None:
    models = Models(most_waiting=2)
    waiting = [models.bring() for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await models.bring()
    models.let_end.set()
    assert await asyncio.gather(*waiting) == ["the version"] * 2


async def test_a_model_that_is_gone_again_before_the_request_looked_is_loaded_again() -> None:
    models = Models()
    load: Callable[[str], Awaitable[None]] = models.load

    async def lost_once(name: str) -> None:
        await load(name)
        models.loaded = models.loads > 1

    models.demand = OnDemand(models.find, lambda _: not models.loaded, lost_once, 20)
    models.let_end.set()
    assert await models.bring() == "the version"
    assert models.loads == 2
