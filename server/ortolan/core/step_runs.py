"""Running the steps of an ensemble: each as soon as those are done whose outputs it takes, beside each other."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence

from ortolan.core.ensemble_graph import StepRun


async def in_order(runs: Sequence[StepRun], ask: Callable[[StepRun], Coroutine[None, None, None]]) -> None:
    """``ask`` for each of ``runs``, which come in an order in which they could be asked one after another.

    The first step that fails ends the others, and its error is raised; so does cancelling the caller. Once this
    returns or raises, no step runs any more.
    """
    loop = asyncio.get_running_loop()
    waiting = list(runs)
    done: set[int] = set()
    running: dict[asyncio.Task[None], StepRun] = {}
    try:
        while waiting or running:
            ready = [run for run in waiting if run.after <= done]
            waiting = [run for run in waiting if not run.after <= done]
            if len(ready) == 1 and not running:
                # Most ensembles are chains, which need no tasks.
                await ask(ready[0])
                done.add(ready[0].index)
                continue
            running.update({loop.create_task(ask(run)): run for run in ready})
            finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                done.add(running.pop(task).index)
            _raise_first(finished)
    finally:
        await _end(running)


def _raise_first(finished: Iterable[asyncio.Task[None]]) -> None:
    """Raise the error of one that failed. Of the others each is looked at, or asyncio would log it as forgotten."""
    errors = [error for task in finished if (error := task.exception()) is not None]
    if errors:
        raise errors[0]


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    left = list(tasks)
    for task in left:
        task.cancel()
    if left:
        await asyncio.gather(*left, return_exceptions=True)
