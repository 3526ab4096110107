"""The client's side of HTTP/1.1: prepared requests and bytes that came → bytes to send and answers; no socket."""

from typing import Any, NamedTuple

import httptools

from ortolan.bench.load import PreparedRequest


class Answer(NamedTuple):
    """``tag`` is what the request was sent with; ``failure`` is "" where the status says success."""

    tag: Any
    failure: str
    body: bytes


class HttpExchange:
    """One connection with one request under way at a time."""

    def __init__(self) -> None:
        self._tag: Any = None
        self._busy = False
        self._pieces: list[bytes] = []
        self._answers: list[Answer] = []
        self._out = b""
        self._parser = httptools.HttpResponseParser(self)
        self.over = False
        """Whether the server will close the connection, so that another one is to be opened."""

    def ask(self, request: PreparedRequest, tag: Any) -> None:
        """Send ``request`` next; the answer to the one before must have come."""
        self._tag, self._busy = tag, True
        self._out = request.head + request.body

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> list[Answer]:
        """The answers that ``data`` complete. Raises ValueError for what is no HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ValueError(f"the server does not answer in HTTP/1.1: {error}") from None
        answers, self._answers = self._answers, []
        return answers

    def lost(self) -> list[Any]:
        """The tags of the requests under way, once the connection has ended."""
        return [self._tag] if self._busy else []

    # What the parser calls.

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._busy = False
        self.over = not self._parser.should_keep_alive()
        self._answers.append(Answer(self._tag, "" if status == 200 else str(status), body))
