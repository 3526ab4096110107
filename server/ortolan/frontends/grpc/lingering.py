"""How a socket is closed so that what was sent to its client is not lost."""

import asyncio

_STEP_S = 1.0
"""So long the client may take to close its side, and as long again while it takes what was sent."""
_MOST_STEPS = 30


class Lingering:
    """Says that nothing follows, then waits a little for the client to close its side. Lives on the event loop.

    A socket that is closed with something unread resets the connection, which can cost the client what was sent.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._steps = 0
        self.begun = False

    def begin(self) -> None:
        if self.begun or self._transport.is_closing():
            return
        self.begun = True
        try:
            self._transport.write_eof()
        except OSError:
            # The client has gone just now.
            self._transport.abort()
        self._wait()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_STEP_S, self._look)

    def _look(self) -> None:
        self._steps += 1
        if not self._transport.get_write_buffer_size() or self._steps >= _MOST_STEPS:
            self._transport.abort()
        else:
            self._wait()
