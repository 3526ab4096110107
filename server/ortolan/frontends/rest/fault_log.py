"""Log lines about clients who send what is no HTTP: one a second at most, so that they cannot fill a disk."""

import logging
import time
from collections.abc import Callable

from ortolan.inference.printable import printable

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_SHOWN = 80


class FaultLog:
    """What all connections of a port have to tell. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        self._clock = clock
        self._next_s = 0.0
        self._untold = 0

    def tell(self, peer: object, fault: str) -> None:
        """``peer``, a client's address as sockets have it, sent what is no HTTP; ``fault`` says why it is none."""
        now_s = self._clock()
        if now_s < self._next_s:
            self._untold += 1
            return
        others = f"; {self._untold} others were not logged" if self._untold else ""
        _log.warning("%s sent what is no HTTP: %s%s", _address(peer), fault, others)
        self._untold = 0
        self._next_s = now_s + _INTERVAL_S


def _address(peer: object) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = str(peer[0]), peer[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return printable(str(peer), _SHOWN) if peer else "a client"
