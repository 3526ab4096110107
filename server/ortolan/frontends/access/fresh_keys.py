"""An issuer's keys, fetched again and again, and for a while kept when they cannot be."""

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ortolan.frontends.access.jwks import KeySet, parse_key_set
from ortolan.frontends.access.key_fetching import KeysUnavailable
from ortolan.frontends.access.key_sources import KeySource
from ortolan.inference.printable import printable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """When to fetch keys; all of it in seconds.

    ``least_gap_s`` is between two fetches that unknown keys ask for: who sends tokens at random must not make the
    server flood the issuer. ``keep_s``: how old keys may become when there are no newer ones to be had.
    """

    refresh_s: float = 600.0
    least_gap_s: float = 30.0
    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0
    attempt_s: float = 10.0
    keep_s: float = 86_400.0

    def delay_s(self, failures: int) -> float:
        """From the beginning of one fetch to the next, after so many ``failures`` in a row."""
        if not failures:
            return self.refresh_s
        return min(self.first_retry_s * (1 << min(failures - 1, 16)), self.longest_retry_s)


FILE_PACE = Pace(refresh_s=2.0, least_gap_s=2.0, first_retry_s=2.0, longest_retry_s=2.0)
"""Looking at a file costs next to nothing."""


class FreshKeys:
    """The keys of one source. Lives on the event loop; what blocks is done in a thread that keeps no process alive."""

    def __init__(self, source: KeySource, pace: Pace, clock: Callable[[], float]) -> None:
        """``clock`` tells the Unix time."""
        self._source = source
        self._clock = clock
        self._pace = pace
        self._keys = KeySet(())
        self._document: bytes | None = None
        self._fetched_at_s = 0.0
        self._attempted_s = -math.inf
        self._failures = 0
        self._wanted = asyncio.Event()
        self._reading: asyncio.Future[tuple[bytes, KeySet | None]] | None = None

    def at(self, now_s: float) -> KeySet | None:
        """The keys to use at the Unix time ``now_s``; None where there are none, or only some that are too old.

        The same object for as long as the keys are the same.
        """
        if self._document is None or now_s - self._fetched_at_s > self._pace.keep_s:
            return None
        return self._keys

    def want_newer(self) -> None:
        """A key was asked for that is not there: fetch as soon as the pace allows."""
        self._wanted.set()

    async def keep(self) -> None:
        """Fetch the keys when it is time, for ever."""
        while True:
            await self._until_due()
            await self.try_refresh()

    async def try_refresh(self) -> None:
        """``refresh``; what goes wrong is said once, until it goes well again."""
        try:
            await self.refresh()
        except KeysUnavailable as error:
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            _log.log(level, "keys of tokens: %s; %s", error, self._what_now())

    async def refresh(self) -> None:
        """Fetch the keys now. Raises KeysUnavailable; then they stay as they were."""
        self._attempted_s = asyncio.get_running_loop().time()
        self._wanted.clear()
        try:
            document, keys = await self._read()
        except KeysUnavailable:
            self._failures += 1
            raise
        if keys is not None:
            self._take(keys)
        elif self._failures:
            _log.info("keys of tokens: %s can be read again", self._source.shown)
        self._document, self._failures, self._fetched_at_s = document, 0, self._clock()

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._attempted_s + self._pace.delay_s(self._failures)):
                await self._wanted.wait()
                await asyncio.sleep(self._attempted_s + self._pace.least_gap_s - loop.time())

    async def _read(self) -> tuple[bytes, KeySet | None]:
        # One at a time: where a name server or a proxy hangs, threads would pile up.
        reading = self._reading or in_daemon_thread(self._read_blocking)
        self._reading = reading
        try:
            await asyncio.wait({reading}, timeout=self._pace.attempt_s)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not reading.done():
            raise KeysUnavailable(f"{self._source.shown} does not answer in time")
        self._reading = None
        return reading.result()

    def _read_blocking(self) -> tuple[bytes, KeySet | None]:
        """The document, and its keys if they are others than before."""
        document = self._source.read(self._pace.attempt_s)
        if document == self._document:
            return document, None
        try:
            return document, parse_key_set(document)
        except ValueError as error:
            raise KeysUnavailable(f"{self._source.shown} {error}") from None

    def _take(self, keys: KeySet) -> None:
        self._keys = keys
        left_out = f"; left out: {printable('; '.join(keys.left_out), _SHOWN)}" if keys.left_out else ""
        level = logging.INFO if keys.keys else logging.WARNING
        _log.log(level, "keys of tokens: %s has %d%s", self._source.shown, len(keys.keys), left_out)

    def _what_now(self) -> str:
        if self._document is None:
            return "until then tokens are refused"
        return f"those that are known count for {self._pace.keep_s / 3600:.0f} h from when they were last read"


def in_daemon_thread(call: Callable[[], _T]) -> asyncio.Future[_T]:
    """What ``call`` returns or raises. Unlike a pool's, its thread is not waited for when the process ends."""
    outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
    threading.Thread(target=_settle, args=(outcome, call), name="keys of tokens", daemon=True).start()
    return asyncio.wrap_future(outcome)


def _settle(outcome: concurrent.futures.Future[_T], call: Callable[[], _T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
