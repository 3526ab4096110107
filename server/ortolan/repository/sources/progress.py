"""How far a download is, as lines in the log every few seconds."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)
_INTERVAL_S = 5.0
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Progress:
    """Of the files that one look at a source fetches. May be used from several threads."""

    def __init__(
        self, shown: str, files: int, size_bytes: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``shown`` is the source's address; ``size_bytes`` is None where some file's size is not known."""
        self._shown = shown
        self._files = files
        self._size_bytes = size_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._begun = self._told = clock()
        if files:
            self._begin()

    def add(self, size_bytes: int) -> None:
        """So many more bytes have arrived; fewer than none when some have to be fetched again."""
        with self._lock:
            self._done_bytes += size_bytes
            now = self._clock()
            if now - self._told < _INTERVAL_S:
                return
            self._told = now
            line = self._line(now)
        _log.info("%s", line)

    def end(self) -> None:
        """All that could be had is there."""
        if not self._files:
            return
        seconds = self._clock() - self._begun
        _log.info("fetched %s from %s in %.1f s", bytes_shown(self._done_bytes), self._shown, seconds)

    def _begin(self) -> None:
        size = "" if self._size_bytes is None else f", {bytes_shown(self._size_bytes)},"
        files = "1 file" if self._files == 1 else f"{self._files} files"
        _log.info("fetching %s%s from %s", files, size, self._shown)

    def _line(self, now: float) -> str:
        rate = f"{bytes_shown(int(self._done_bytes / max(now - self._begun, 0.001)))} a second"
        done = bytes_shown(self._done_bytes)
        if not self._size_bytes:
            return f"fetching from {self._shown}: {done}, {rate}"
        share = min(100, 100 * self._done_bytes // self._size_bytes)
        return f"fetching from {self._shown}: {share} %, {done} of {bytes_shown(self._size_bytes)}, {rate}"


def bytes_shown(count: int) -> str:
    """A number of bytes as people read it: ``1.2 GB``."""
    value, power = float(count), 0
    while abs(value) >= 999.95 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{count} bytes" if power == 0 else f"{value:.1f} {_UNITS[power]}"
