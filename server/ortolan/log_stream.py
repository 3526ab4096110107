"""Log lines to standard error or output, which may be a pipe that nobody reads: only threads for that wait for it."""

import contextlib
import logging
import os
import select
import threading
from queue import SimpleQueue
from typing import TextIO

MOST_WAITING = 4096
"""Lines that wait to be written; what comes while there are so many is lost."""
_FLUSH_S = 1.0

_log = logging.getLogger(__name__)


class StandardStream:
    """What is behind ``stream``. Its lock and its buffer are left out: a thread may wait in ``write`` for ever."""

    def __init__(self, stream: TextIO) -> None:
        """Raises OSError, AttributeError or ValueError where there is no descriptor behind ``stream``."""
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding

    def write(self, lines: str) -> None:
        """Write ``lines`` and the end of the last one, in one piece if a pipe takes that; lost if nobody can read."""
        left = memoryview(f"{lines}\n".encode(self._encoding, "backslashreplace"))
        with contextlib.suppress(OSError):
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                # Whoever shares the stream with us may have made it so.
                except BlockingIOError:
                    select.select((), (self._descriptor,), ())


class StreamHandler(logging.Handler):
    """Has lines written by a thread: whoever logs, such as the event loop, never waits for the stream."""

    def __init__(self, stream: StandardStream) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._lost = 0
        self._told_lost = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(line)
        else:
            self._lost += 1

    def flush(self) -> None:
        """Return when everything is written, or after a second."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(_FLUSH_S)

    # The thread

    def _run(self) -> None:
        while True:
            waiting = self._waiting.get()
            if isinstance(waiting, str):
                self._stream.write(waiting)
            if self._lost != self._told_lost and self._waiting.empty():
                self._tell_lost()
            if not isinstance(waiting, str):
                waiting.set()

    def _tell_lost(self) -> None:
        """Without logging's lock, which whoever flushes at the end holds."""
        self._told_lost = self._lost
        message = "log lines were lost, because they came faster than they could be written: %d so far"
        record = _log.makeRecord(_log.name, logging.WARNING, "", 0, message, (self._told_lost,), None)
        if self.filter(record):
            self._stream.write(self.format(record))
