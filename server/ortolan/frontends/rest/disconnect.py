"""Noticing that a client has gone away while its answer is being made."""

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Receive

# Most answers are there sooner; only those that take longer are worth a task that watches the connection.
PATIENCE_S = 0.01


@contextlib.contextmanager
def cancelled_on_disconnect(receive: Receive) -> Iterator[None]:
    """Cancel the current task if, after a short while, the client closes the connection while the block runs."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    watchers: list[asyncio.Task[None]] = []

    def start() -> None:
        watchers.append(loop.create_task(_cancel_on_disconnect(receive, task)))

    timer = loop.call_later(PATIENCE_S, start)
    try:
        yield
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


async def _cancel_on_disconnect(receive: Receive, task: "asyncio.Task[object] | None") -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            if task is not None:
                task.cancel()
            return
