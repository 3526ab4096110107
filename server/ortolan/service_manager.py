"""Telling systemd, or who speaks its protocol, that the server is ready, alive, or about to end.

sd_notify(3): datagrams of lines NAME=VALUE to the socket of the variable NOTIFY_SOCKET. Without it nothing is told.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

# Half of what it may take, as sd_watchdog_enabled(3) has it.
_BEATS = 2
# Its queue is full when it is behind by some messages. To lose the one that says READY would be to be ended for it.
_PATIENCE_S = 1.0


class ServiceManager:
    """Who started the server and waits for word of it; nothing that goes wrong there keeps the server from serving."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """``address``: a socket's path, or a name behind @; "" for nobody. A beat is due within ``watchdog_s``."""
        self._address = address
        self._watchdog_s = watchdog_s

    def loading(self) -> None:
        self._tell("STATUS=loading models")

    def ready(self, status: str) -> None:
        """Models are loaded and every door is open."""
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """Of several times the first counts."""
        self._tell("STOPPING=1", "STATUS=finishing what is inside")

    async def keep_alive(self) -> None:
        """Say that the event loop lives for as long as it does, where a watchdog wants to hear so."""
        while self._address and self._watchdog_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / _BEATS)

    def _tell(self, *lines: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
            opened.settimeout(_PATIENCE_S)
            opened.connect(address)
            opened.send("\n".join(lines).encode())


def service_manager(environment: Mapping[str, str]) -> ServiceManager:
    """Who started this process, by the variables that systemd sets."""
    meant = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    watchdog_us = environment.get("WATCHDOG_USEC", "") if meant else ""
    watchdog_s = int(watchdog_us) / 1e6 if watchdog_us.isdecimal() else 0.0
    return ServiceManager(environment.get("NOTIFY_SOCKET", ""), watchdog_s)
