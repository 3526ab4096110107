"""Noticing that a client has gone away while its answer is being made."""

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Receive

from ortolan.errors import Cancelled

# Most answers are there sooner; only those that take longer are worth a task that watches the connection.
PATIENCE_S = 0.01


@contextlib.contextmanager
def cancelled_on_disconnect(receive: Receive) -> Iterator[None]:
    """Cancel what the block awaits if, after a short while, the client closes the connection. Raises Cancelled then."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    watchers: list[asyncio.Task[None]] = []

    def start() -> None:
        watchers.append(loop.create_task(_cancel_on_disconnect(receive, task)))

    timer = loop.call_later(PATIENCE_S, start)
    try:
        yield
    except asyncio.CancelledError:
        if task is None or not (watchers and watchers[0].done()):
            raise
        # It was the watcher and no one else who cancelled the task, so the task may go on to its end.
        task.uncancel()
        raise Cancelled("the client went away before its answer was ready") from None
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
