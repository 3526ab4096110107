"""A replica's side of the channel: what the supervisor has it do, and what it asks of all replicas."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

from ortolan.core.whole_server import READINESS
from ortolan.errors import Unavailable
from ortolan.frontends.metrics import process_samples
from ortolan.replicas.channel import Channel, Gone, Leaving
from ortolan.replicas.shared_answer import READINESS_KEPT_S, SharedAnswer
from ortolan.server import Server
from ortolan.summary import summary

_log = logging.getLogger(__name__)
# The supervisor waits two seconds for each replica at once. One that takes longer than this hangs.
_PATIENCE_S = 5.0


class Member:
    """A ``Membership``, and the ``Processes`` of the server that has it. Lives on the event loop, once it runs."""

    def __init__(self, end: socket.socket, number: int, opens_late: bool) -> None:
        self.number = number
        self.opens_late = opens_late
        self.processes = self
        self._end = end
        self._server: Server
        self._channel: Channel
        self._may_load, self._may_open = asyncio.Event(), asyncio.Event()
        self._loaded, self._serving = asyncio.Event(), asyncio.Event()
        self._said = ""
        self._readiness = SharedAnswer(lambda: self._gather(READINESS), READINESS_KEPT_S)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for the server ------------------------------------------------------------------------------------------

    async def before_loads(self, server: Server) -> None:
        self._server = server
        server.core.whole.tell_replica = self._tell
        # From the first load on models are compiled before they are loaded: all replicas map the result.
        server.manager.compiled.begin_serving()
        self._channel = await Channel.over(self._end, self._answer)
        task = asyncio.get_running_loop().create_task(self._end_with_supervisor())
        self._tasks.add(task)
        await self._may_load.wait()

    async def after_loads(self) -> None:
        self._loaded.set()
        await self._may_open.wait()

    def announce(self, server: Server) -> None:
        """It serves: the supervisor tells that to people."""
        loaded = [version.loaded for version in server.manager.serving() if version.loaded]
        if self.number == 1 and any(device != "CPU" for each in loaded for device in each.devices):
            _log.warning(
                "each of the %d processes holds its models, and a context, in the GPU's memory; one process is mostly "
                "enough for a GPU: consider --processes=1",
                server.settings.processes,
            )
        self._said = summary(server)
        self._serving.set()

    async def perform(self, action: str, *arguments: object) -> None:
        await self._channel.call("perform", action, arguments)
        self._readiness.forget()

    async def gather(self, question: str) -> Sequence[Any]:
        return await (self._readiness.get() if question == READINESS else self._gather(question))

    async def _gather(self, question: str) -> Sequence[Any]:
        try:
            answers: Sequence[Any] = await asyncio.wait_for(self._channel.call("gather", question), _PATIENCE_S)
        except Gone:
            return [None]
        except TimeoutError:
            if question == READINESS:
                return [None]
            raise Unavailable("the other processes of the server do not answer; retry later") from None
        return answers

    # -- for the supervisor --------------------------------------------------------------------------------------

    async def _answer(self, name: str, arguments: Sequence[Any]) -> Any:
        if name == "act":
            return await self._act(*arguments)
        if name == "load":
            self._may_load.set()
            await self._loaded.wait()
            return None
        if name == "open":
            self._may_open.set()
            await self._serving.wait()
            return self._said
        if name == "stop":
            (delay_s,) = arguments
            self._server.stop_after(delay_s, by="the supervisor")
            return None
        raise Unavailable(f"no replica knows of '{name}'")

    async def _act(self, action: str, arguments: Sequence[Any]) -> Any:
        try:
            return await self._server.core.whole.act(action, arguments)
        except Unavailable as error:
            # What a process that stops refuses, the others can do without it.
            if self._server.core.draining:
                raise Leaving(error.message) from None
            raise

    def _tell(self) -> dict[str, Any]:
        return {str(self.number): process_samples()}

    async def _end_with_supervisor(self) -> None:
        await self._channel.ended()
        self._server.stop_after(0.0)
