"""One replica as the supervisor sees it: a process, and a channel to it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ortolan
from ortolan.replicas.channel import Answer, Channel, Gone, Leaving, send_now

_MODULE = "ortolan.replicas.replica"


class ReplicaProcess:
    """Lives on the event loop of the supervisor."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.pid = process.pid
        self.serves = False
        """Whether it takes requests, and its readiness counts."""
        self.leaves = False
        """Whether it has refused something because it is about to end."""
        self.told: Mapping[str, Any] = {}
        """The last it told of its numbers."""
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls, number: int, introduction: Mapping[str, Any], answer: Answer) -> "ReplicaProcess":
        """Start the process, which is told ``introduction`` before anything else; ``answer`` has what it asks.

        It gets the supervisor's environment, and a session of its own, so that a terminal's signals reach it through
        the supervisor only.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": _python_path()},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        with contextlib.suppress(OSError):
            # A few kilobytes, which the socket takes at once.
            send_now(ours, {**introduction, "number": number})
        return cls(number, process, await Channel.over(ours, answer))

    async def act(self, action: str, arguments: Sequence[Any]) -> Any:
        """Have it do what all do. Raises what that raises, and Gone when the process has ended or ends."""
        try:
            return await self._channel.call("act", action, arguments)
        except Leaving:
            self.leaves = True
            raise

    async def load(self) -> None:
        """Have it load what is to be served at the start; return when it has."""
        await self._channel.call("load")

    async def open(self) -> str:
        """Have it serve, on open ports; what it says of itself."""
        return str(await self._channel.call("open"))

    async def stop(self, delay_s: float) -> None:
        """Have it stop as after a signal, once it has answered on for ``delay_s``."""
        with contextlib.suppress(Gone):
            await self._channel.call("stop", delay_s)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Its exit code; that of a signal is negative."""
        code = await self._process.wait()
        # What it said last may still be on its way.
        await self._channel.ended()
        return code


def how_it_ended(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"with exit code {code}"
    known = {each.value for each in signal.Signals}
    return f"by {signal.Signals(-code).name if -code in known else f'signal {-code}'}"


def _python_path() -> str:
    """Where this package is, and where else the supervisor finds modules because of PYTHONPATH."""
    package = str(Path(ortolan.__file__).parent.parent)
    return os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
