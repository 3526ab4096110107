"""The end of a port: who has come is let in, and nobody else comes.

The system makes connections before the process takes them. Those that are not taken are reset when the socket that
listens is closed, together with the requests that clients have sent there.
"""

import asyncio
import contextlib
import ctypes
import selectors
import socket
import struct
import sys

# Whom the system has answered already needs a round trip more to be connected: that of most networks.
_HANDSHAKES_S = 0.05
# A loop that does not come to accept is stuck.
_LONGEST_S = 2.0

# Linux' SO_ATTACH_FILTER, which Python does not name, and a filter of the old kind: it sees TCP's header. SYN without
# ACK, in the byte of flags at 13, is dropped; all else passes.
_ATTACH_FILTER = 26
_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte
    (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
    (0x15, 0, 1, 0x02),  # SYN alone: the next line, else the one after
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


async def last_callers(listening: socket.socket) -> None:
    """Return when the event loop has accepted all who have come to ``listening``; close it then, at once.

    On Linux the system makes no new connections there from now on. Who asks for one hears nothing, asks again a second
    later, as TCP does, and finds the port closed, or is let in by another process that shares it. For a socket that is
    closed already nothing is to be done.
    """
    if listening.fileno() < 0:
        return
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            _make_no_connections(listening)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _LONGEST_S
    await asyncio.sleep(_HANDSHAKES_S)
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        while selector.select(0) and loop.time() < end_s:  # noqa: ASYNC110 - the loop has no event for it
            await asyncio.sleep(0)
    # Who was accepted last becomes a protocol's connection in the loop's next turn.
    await asyncio.sleep(0)


def _make_no_connections(listening: socket.socket) -> None:
    lines = b"".join(struct.pack("HBBI", *line) for line in _NO_SYN)
    buffer = ctypes.create_string_buffer(lines, len(lines))
    listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(buffer)))
