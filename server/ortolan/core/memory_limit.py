"""How much memory this process may use: who asks for more is refused, where the system would end the process.

The system lets a process have memory that it does not have, and ends the process when it uses it. Under a limit of what
it may ask for (RLIMIT_DATA) the run, load or body that wants too much fails, with an error of its own, and everything
else goes on. The limit counts what is asked for, used or not: stacks of threads, and what libraries keep for later. So
it is set anew a few times a second to what the process may use and, beside that, what it has had for a while and does
not use. Parts of files that are mapped do not count, as the system can let go of them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ortolan.core.memory_amount import amount_of, shown

try:
    import resource
except ImportError:  # pragma: no cover - Windows has none
    resource = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

OFF = "off"
AUTO = "auto"
AUTO_SHARE = "90%"

LOOK_EVERY_S = 0.25
# Long enough to have written to what was asked for just now: some gigabytes.
_LOOKS = 12
_STATUS = Path("/proc/self/status")
_FIELDS = ("VmData", "RssAnon", "Threads")
# What the C library gives a thread where there is no limit for its stack.
_USUAL_STACK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class AskedMemory:
    """What the process has asked for, in bytes: all of it, the part that is used, and the part for threads' stacks."""

    asked_bytes: int
    used_bytes: int
    stack_bytes: int


def limit_bytes(allowed_bytes: int, looks: Sequence[AskedMemory]) -> int:
    """The limit of what may be asked for, by the last ``looks``, so that no more than ``allowed_bytes`` can be used.

    What was asked for a moment ago is about to be used and counts; what was not used in all looks does not. Stacks are
    hardly used, also those of threads that have just begun.
    """
    unused = min(look.asked_bytes - look.used_bytes - look.stack_bytes for look in looks)
    return allowed_bytes + max(0, unused + looks[-1].stack_bytes)


def allowed_bytes(text: str, available_bytes: int, processes: int, has_gpu: bool) -> int:
    """What each of ``processes`` may use by ``--memory-limit``; 0 for any amount.

    With a GPU there is a limit only where one was chosen: what drivers ask for is beyond measure. Raises ValueError.
    """
    if text == OFF or (text == AUTO and has_gpu):
        return 0
    return amount_of(AUTO_SHARE if text == AUTO else text, available_bytes) // processes


def refuse_wrong_limit(text: str) -> None:
    """Raises ValueError where ``--memory-limit`` is no amount."""
    try:
        allowed_bytes(text, 1 << 40, 1, has_gpu=False)
    except ValueError as error:
        raise ValueError(f"--memory-limit {error}, off or auto, got {text!r}") from None


class MemoryLimit:
    """Keeps this process within ``allowed_bytes``, where the system is Linux. 0: nothing is kept."""

    def __init__(self, allowed_bytes: int) -> None:
        self._allowed_bytes = allowed_bytes if resource is not None and _STATUS.exists() else 0
        self._looks: deque[AskedMemory] = deque(maxlen=_LOOKS)

    async def keep(self) -> None:
        """Set the limit again and again, until cancelled."""
        if not self._allowed_bytes:
            return
        _log.debug("memory: this process may use %s (--memory-limit)", shown(self._allowed_bytes))
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Set the limit to what is right now."""
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        self._looks.append(_asked_memory())
        limit = limit_bytes(self._allowed_bytes, self._looks)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _asked_memory() -> AskedMemory:
    found: dict[str, int] = {}
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name in _FIELDS:
            found[name] = int(value.split()[0])
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stacks = found["Threads"] * (stack if 0 < stack < 1 << 40 else _USUAL_STACK_BYTES)
    return AskedMemory(found["VmData"] << 10, found["RssAnon"] << 10, stacks)
