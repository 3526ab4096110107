"""A program on a terminal of its own: what it writes, as it comes, and keys for it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST_S = 30.0


class Terminal:
    """The user's side; ``written`` is all that came so far."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.written = ""

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, condition: Callable[[str], bool], within_s: float = LONGEST_S) -> str:
        """What came since the last call, once ``condition`` holds for it."""
        deadline = time.monotonic() + within_s
        since = ""
        while not condition(since):
            piece = self._more(deadline - time.monotonic())
            assert piece, f"not so within {within_s} s, or the program ended; since then came {since!r}"
            since += piece
        return since

    def to_the_end(self, within_s: float = LONGEST_S) -> str:
        """The rest of what the program writes."""
        deadline = time.monotonic() + within_s
        rest = ""
        while piece := self._more(deadline - time.monotonic()):
            rest += piece
        self.process.wait(max(0.1, deadline - time.monotonic()))
        return rest

    def _more(self, within_s: float) -> str:
        ready, _, _ = select.select([self._master], [], [], max(0.0, within_s))
        piece = b""
        # A terminal that nobody writes to any more is read with an error.
        with suppress(OSError):
            piece = os.read(self._master, 1 << 16) if ready else b""
        text = piece.decode(errors="replace")
        self.written += text
        return text


@contextmanager
def on_a_terminal(
    command: Sequence[str | Path], environment: Mapping[str, str], columns: int = 120, rows: int = 40
) -> Iterator[Terminal]:
    """``command`` on a terminal of that size, which it ends with."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [*map(str, command)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=dict(environment),
        start_new_session=True,
        # The terminal's own, so that keys become signals.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        os.close(master)
