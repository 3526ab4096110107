"""The answer to a question that many ask at once: it is asked for once, and told to all."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

READINESS_KEPT_S = 0.1
"""Of readiness: in a replica, and again in the supervisor that asks all of them for it."""


class SharedAnswer(Generic[_T]):
    """Lives on the event loop."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _T]], kept_s: float) -> None:
        """``ask`` is called when nobody waits for an answer and the last one came more than ``kept_s`` ago."""
        self._ask = ask
        self._kept_s = kept_s
        self._asking: asyncio.Task[_T] | None = None
        self._came_s = 0.0

    async def get(self) -> _T:
        """The answer. Raises what ``ask`` raises; who is cancelled does not take it from the others."""
        return await asyncio.shield(self._task())

    def forget(self) -> None:
        """Ask anew from now on: something has changed."""
        self._asking = None

    def _task(self) -> asyncio.Task[_T]:
        loop = asyncio.get_running_loop()
        if self._asking is None or (self._asking.done() and loop.time() >= self._came_s + self._kept_s):
            self._asking = loop.create_task(self._ask())
            self._asking.add_done_callback(self._note_time)
        return self._asking

    def _note_time(self, task: asyncio.Task[_T]) -> None:
        if task is self._asking:
            self._came_s = task.get_loop().time()
