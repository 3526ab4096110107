"""Steps beside and after each other, and what happens to the others when one fails."""

import asyncio

import pytest

from ortolan.core.ensemble_graph import StepRun
from ortolan.core.step_runs import in_order
from ortolan.errors import Internal


def run(index: int, *after: int) -> StepRun:
    return StepRun(index, {}, frozenset(after))


class Steps:
    """Steps that last until they are let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.gates = {index: asyncio.Event() for index in range(5)}
        self.failing: set[int] = set()

    async def ask(self, step: StepRun) -> None:
        self.begun.append(step.index)
        try:
            await self.gates[step.index].wait()
        except asyncio.CancelledError:
            self.cancelled.append(step.index)
            raise
        if step.index in self.failing:
            raise Internal(f"step {step.index}")
        self.ended.append(step.index)

    async def let_go(self, index: int) -> None:
        self.gates[index].set()
        await settled()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_step_begins_as_soon_as_those_before_it_are_done() -> None:
    steps = Steps()
    # 0 and 1 beside each other; 2 needs 0 only, 3 needs both, 4 needs 3.
    task = asyncio.create_task(in_order([run(0), run(1), run(2, 0), run(3, 0, 1), run(4, 3)], steps.ask))
    await settled()
    assert steps.begun == [0, 1]
    await steps.let_go(0)
    assert steps.begun == [0, 1, 2]
    await steps.let_go(1)
    assert steps.begun == [0, 1, 2, 3]
    for index in (2, 3, 4):
        await steps.let_go(index)
    await task
    assert steps.ended == [0, 1, 2, 3, 4]


async def test_the_first_step_that_fails_ends_the_others() -> None:
    steps = Steps()
    steps.failing = {1}
    task = asyncio.create_task(in_order([run(0), run(1), run(2, 1)], steps.ask))
    await settled()
    await steps.let_go(1)
    with pytest.raises(Internal, match="step 1"):
        await task
    assert (steps.begun, steps.cancelled) == ([0, 1], [0])


async def test_of_two_that_fail_together_one_is_raised_and_none_is_forgotten() -> None:
    steps = Steps()
    steps.failing = {0, 1}
    task = asyncio.create_task(in_order([run(0), run(1)], steps.ask))
    await settled()
    steps.gates[0].set()
    steps.gates[1].set()
    with pytest.raises(Internal):
        await task


@pytest.mark.parametrize("runs", [[run(0), run(1)], [run(0), run(1, 0)]], ids=["beside", "after"])
async def test_cancelling_ends_every_step_that_runs(runs: list[StepRun]) -> None:
    steps = Steps()
    task = asyncio.create_task(in_order(runs, steps.ask))
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.cancelled == steps.begun
