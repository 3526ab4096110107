"""Models that are loaded when somebody asks for them: each once, however many ask, and a broken one not for each.

A request waits for the load that it, or one before it, began; when it has waited long enough it is told to come back,
and the load goes on. Lives on the event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ortolan.core.served_version import ServedVersion
from ortolan.errors import DeadlineExceeded, NotFound, OrtolanError, OutOfMemory, QueueFull, Unavailable

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_COME_BACK_S = 5
_MOST_WAITING = 4096
_STOPPING = "the server is stopping and loads nothing any more"


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed: what to tell, and until when it is not tried again."""

    error: OrtolanError
    pause_s: float
    until_s: float

    def told(self, name: str, now_s: float) -> Unavailable:
        kind = OutOfMemory if isinstance(self.error, OutOfMemory) else Unavailable
        left_s = max(1, round(self.until_s - now_s))
        told = kind(f"model '{name}' could not be loaded, and is not tried again for {left_s} s: {self.error.message}")
        told.retry_after_s = left_s
        return told


class OnDemand:
    """Which models are loaded by the requests for them."""

    def __init__(
        self,
        find: Callable[[str, str], ServedVersion],
        is_absent: Callable[[str], bool],
        load: Callable[[str], Awaitable[None]],
        wait_s: float,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """``find`` raises NotFound or Unavailable; ``is_absent`` tells models of the repository of which nothing serves
        and which may be loaded; ``load`` raises an OrtolanError where nothing serves afterwards.
        """
        self._find = find
        self._is_absent = is_absent
        self._load = load
        self._wait_s = wait_s
        self._most_waiting = most_waiting
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._failures: dict[str, Failure] = {}

    async def bring(self, name: str, version: str, deadline_ns: int = 0) -> ServedVersion:
        """The ready version, loaded first if need be; nothing waits between its being found and the return.

        ``name`` is the model's full name. Raises as ``find`` does, and Unavailable where the load takes longer than a
        request waits, or failed a short while ago; DeadlineExceeded when the request's own deadline comes first.
        """
        end_s = time.monotonic() + self._wait_s
        late: Unavailable = self._still_loading(name)
        if deadline_ns and deadline_ns / 1e9 < end_s:
            end_s = deadline_ns / 1e9
            late = DeadlineExceeded(f"the request's deadline passed while model '{name}' was being loaded for it")
        while True:
            try:
                return self._find(name, version)
            except (NotFound, Unavailable):
                if not self._is_absent(name):
                    raise
            await self._loaded(name, end_s, late)

    def is_awaited(self, name: str) -> bool:
        """Whether requests wait for the model, or have not noticed yet that it is there."""
        return self._waiting[name] > 0

    def is_paused(self, name: str) -> bool:
        """Whether the model failed to load a short while ago."""
        failure = self._failures.get(name)
        return failure is not None and time.monotonic() < failure.until_s

    def forgive(self, name: str) -> None:
        """Let the next request try again: there are other files, or a client had it loaded."""
        self._failures.pop(name, None)

    async def _loaded(self, name: str, end_s: float, late: Unavailable) -> None:
        """Return once the load that is under way, or begins now, has ended well. Raises ``late`` at ``end_s``."""
        task = self._under_way.get(name) or self._begin(name)
        with self._one_more(name):
            # Not awaited itself: the load goes on when this request's client goes, or has waited long enough.
            await asyncio.wait((task,), timeout=max(0.0, end_s - time.monotonic()))
        if not task.done():
            raise late
        if task.cancelled():
            raise Unavailable(_STOPPING)
        if (error := task.exception()) is not None:
            failure = self._failures.get(name)
            raise failure.told(name, time.monotonic()) if failure else error

    @contextmanager
    def _one_more(self, name: str) -> Iterator[None]:
        """One more request waits for the model."""
        if self._waiting[name] >= self._most_waiting:
            raise QueueFull(f"{self._waiting[name]} requests wait for model '{name}' to be loaded, as many as may")
        self._waiting[name] += 1
        try:
            yield
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]

    def _begin(self, name: str) -> "asyncio.Task[None]":
        failure = self._failures.get(name)
        if failure is not None and time.monotonic() < failure.until_s:
            raise failure.told(name, time.monotonic())
        task = self._under_way[name] = asyncio.get_running_loop().create_task(self._try(name))
        task.add_done_callback(lambda _: self._end(name, task))
        return task

    def _end(self, name: str, task: "asyncio.Task[None]") -> None:
        del self._under_way[name]
        if not task.cancelled():
            # Told to those who wait; asyncio would log it as forgotten where nobody does any more.
            task.exception()

    async def _try(self, name: str) -> None:
        try:
            await self._load(name)
        except OrtolanError as error:
            before = self._failures.get(name)
            pause_s = min(_LONGEST_PAUSE_S, before.pause_s * 2 if before else _FIRST_PAUSE_S)
            self._failures[name] = Failure(error, pause_s, time.monotonic() + pause_s)
            raise
        self._failures.pop(name, None)

    def _still_loading(self, name: str) -> Unavailable:
        told = Unavailable(
            f"model '{name}' is being loaded, which takes longer than the {self._wait_s:g} s for which a request waits "
            "(--load-on-demand-wait-secs); retry later"
        )
        told.retry_after_s = _COME_BACK_S
        return told
