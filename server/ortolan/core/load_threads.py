"""The threads in which models are read and loaded, so that the event loop never waits for a disk."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from ortolan.errors import Internal, OrtolanError, OutOfMemory
from ortolan.execution.thread_turns import take_usual_turns

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

LOAD_THREADS = "load"
"""How the names of the threads begin that load models."""

# Python lets a thread compute for 5 ms before another one gets a turn; a request needs several turns, and beside a load
# would wait for each. Measured with a model of 168 MiB that loads beside: p90 of the others 25 ms, and 5 ms with this.
_TURN_S = 0.0005


class LoadThreads:
    """A small pool; what waits for a thread is dropped when the server stops."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=LOAD_THREADS, initializer=take_usual_turns)
        self._running = 0
        self._usual_turn_s = sys.getswitchinterval()

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The value of ``function``; what it raises that is no OrtolanError becomes Internal, with a log entry."""

        def guarded() -> _T:
            try:
                return function(*args, **kwargs)
            except OrtolanError:
                raise
            except MemoryError as error:
                raise OutOfMemory(
                    "there is no memory left to load it: unload others, or raise --memory-limit"
                ) from error
            # A load that fails in an unforeseen way fails its model only, and says so in the index.
            except Exception as error:
                _log.exception("a load failed in an unforeseen way")
                raise Internal(f"unforeseen {type(error).__name__}; the server's log has the details") from error

        with self._short_turns():
            return await asyncio.get_running_loop().run_in_executor(self._pool, guarded)

    @contextmanager
    def _short_turns(self) -> Iterator[None]:
        """Have requests wait less for threads that load, while any does."""
        self._running += 1
        sys.setswitchinterval(_TURN_S)
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                sys.setswitchinterval(self._usual_turn_s)

    def stop(self) -> None:
        """Start nothing any more; a thread that is inside a load goes on until the runtime lets go of it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
