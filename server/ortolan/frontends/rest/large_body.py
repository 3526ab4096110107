"""Receiving the rest of a large body straight into its memory, past the parser and without a copy on the way."""

import asyncio
from typing import Protocol

LARGE_BYTES = 64 << 10
"""From here on it pays: to change a transport's protocol twice costs some microseconds."""


class Connection(Protocol):
    """Whose body it is: its transport's protocol before and after."""

    def heard(self, size: int) -> None: ...

    def large_body_complete(self) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class LargeBody(asyncio.BufferedProtocol):
    """The transport's protocol until the body is complete. No byte after it is read: that is the next request's."""

    def __init__(self, connection: Connection, rest: memoryview) -> None:
        self._connection = connection
        self._rest = rest

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._rest

    def buffer_updated(self, nbytes: int) -> None:
        self._rest = self._rest[nbytes:]
        if self._rest:
            self._connection.heard(nbytes)
        else:
            self._connection.large_body_complete()

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
