"""Calls between the supervisor and a replica, over one socket on which both may ask and both answer."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

from ortolan import errors
from ortolan.errors import Internal, OrtolanError, Unavailable
from ortolan.replicas import frames

_log = logging.getLogger(__name__)

Answer = Callable[[str, Sequence[Any]], Awaitable[Any]]
"""What is called with the name and the arguments of what the other end asks; what it returns or raises goes back."""

_FAULT = "an unexpected error; the server's log says more"


class Gone(Unavailable):
    """The process at the other end has ended, or ends."""


class Leaving(Gone):
    """The process at the other end is about to end, and has not done what it was asked for."""


class Channel:
    """One end. Lives on the event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def over(cls, end: socket.socket, answer: Answer) -> "Channel":
        """The channel over one end of a socket pair, which belongs to it from now on."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end), answer)

    async def call(self, name: str, *arguments: object) -> Any:
        """What the other end answers. Raises what it raises, and Gone when it is not there any more."""
        if self._reading.done():
            raise Gone("the server is stopping")
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send({"number": number, "call": name, "arguments": arguments})
            return await future
        finally:
            del self._asked[number]

    async def ended(self) -> None:
        """Return when the other end is gone, or after ``close``."""
        await asyncio.wait([self._reading])

    def close(self) -> None:
        self._reading.cancel()

    async def _read(self) -> None:
        try:
            while True:
                self._take(await _next_message(self._reader))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writer.close()
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(Gone("the server is stopping"))

    def _take(self, message: dict[str, Any]) -> None:
        if "call" in message:
            task = asyncio.get_running_loop().create_task(self._reply(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._asked.get(message["number"])
        # Whoever asked may have gone meanwhile.
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(_error(*message["error"]))
        else:
            future.set_result(message["answer"])

    async def _reply(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"number": message["number"]}
        try:
            reply["answer"] = await self._answer(message["call"], message["arguments"])
        except OrtolanError as error:
            reply["error"] = type(error).__name__, error.message
        # Whatever it was, who waits for an answer is to get one.
        except Exception:
            _log.exception("'%s' failed in an unforeseen way", message["call"])
            reply["error"] = Internal.__name__, _FAULT
        try:
            await self._send(reply)
        except Gone:
            return

    async def _send(self, message: object) -> None:
        try:
            self._writer.writelines(frames.frame_of(message))
            await self._writer.drain()
        except OSError:
            raise Gone("the server is stopping") from None


async def _next_message(reader: asyncio.StreamReader) -> Any:
    head = await reader.readexactly(frames.HEAD_BYTES)
    sizes = await reader.readexactly(frames.sizes_bytes(head))
    text, *contents = [await reader.readexactly(length) for length in frames.lengths(head, sizes)]
    return frames.message_of(text, contents)


def _error(kind: str, message: str) -> OrtolanError:
    if kind == Leaving.__name__:
        return Leaving(message)
    found = getattr(errors, kind, Internal)
    return found(message) if isinstance(found, type) and issubclass(found, OrtolanError) else Internal(message)


def send_now(end: socket.socket, message: object) -> None:
    """Send one message over a socket that blocks."""
    end.sendall(b"".join(frames.frame_of(message)))


def receive_now(end: socket.socket) -> Any:
    """The next message of a socket that blocks. Raises EOFError when the other end is gone."""
    head = _receive(end, frames.HEAD_BYTES)
    sizes = _receive(end, frames.sizes_bytes(head))
    text, *contents = [_receive(end, length) for length in frames.lengths(head, sizes)]
    return frames.message_of(text, contents)


def _receive(end: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes, and nothing of what follows."""
    pieces = bytearray()
    while len(pieces) < length:
        piece = end.recv(length - len(pieces))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
