"""The threads in which models are read and loaded, so that the event loop never waits for a disk."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ortolan.errors import Internal, OrtolanError

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

LOAD_THREADS = "load"
"""How the names of the threads begin that load models."""


class LoadThreads:
    """A small pool; what waits for a thread is dropped when the server stops."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=LOAD_THREADS)

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The value of ``function``; what it raises that is no OrtolanError becomes Internal, with a log entry."""

        def guarded() -> _T:
            try:
                return function(*args, **kwargs)
            except OrtolanError:
                raise
            # A load that fails in an unforeseen way fails its model only, and says so in the index.
            except Exception as error:
                _log.exception("a load failed in an unforeseen way")
                raise Internal(f"unforeseen {type(error).__name__}; the server's log has the details") from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, guarded)

    def stop(self) -> None:
        """Start nothing any more; a thread that is inside a load goes on until the runtime lets go of it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
