"""An answer over HTTP as data: its status, its headers and its body in pieces."""

import logging
from collections.abc import Sequence
from http.client import responses
from typing import NamedTuple

import orjson

from ortolan.core.request_note import RequestNote
from ortolan.errors import Internal, OrtolanError, Unauthenticated, Unavailable, UnsupportedEncoding
from ortolan.frontends import status
from ortolan.frontends.rest.compression import ENCODINGS

_log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

OK_LINE = b"HTTP/1.1 200 OK\r\n"
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in responses.items()}


class Answer(NamedTuple):
    """What is sent. Header names are in lower case; the content's length is among the headers."""

    status: int
    headers: Headers
    body: Sequence[bytes | memoryview]
    """The pieces, one after the other: large ones are views, which nobody puts together first."""
    error: str = ""
    """The kind of error that it tells, for the log."""


def header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The headers as they are sent over HTTP/1."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def head_bytes(answer: Answer, default_headers: Sequence[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
    """Status and headers over HTTP/1. None of them holds what a client sent, so that no line can be smuggled in."""
    status_line = _STATUS_LINES.get(answer.status) or b"HTTP/1.1 %d \r\n" % answer.status
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((status_line, header_lines(default_headers), header_lines(answer.headers), end))


def message_answer(status_code: int, message: str, headers: Headers | None = None) -> Answer:
    """``{"error": message}``, the form that every refusal has."""
    text = orjson.dumps({"error": message})
    described = [(b"content-length", b"%d" % len(text)), (b"content-type", b"application/json")]
    return Answer(status_code, [*(headers or ()), *described], (text,))


def error_answer(error: OrtolanError) -> Answer:
    """What a client is told of an error of ours."""
    _log.debug("a request over HTTP was refused: %s", error)
    headers: Headers = []
    if isinstance(error, Unavailable):
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    elif isinstance(error, UnsupportedEncoding):
        headers.append((b"accept-encoding", ", ".join(ENCODINGS).encode()))
    elif isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="ortolan"'))
    return message_answer(status.http_status(error), error.message, headers)._replace(error=type(error).__name__)


def bug_answer(path: str, error: Exception, note: RequestNote | None = None) -> Answer:
    """What a client is told of an error that nobody foresaw; the log has the rest, and the request's id by ``note``."""
    told = status.foreseen(error)
    if told is not None:
        return error_answer(told)
    extra = {"request_id": note.request_id} if note is not None else None
    _log.error("a request to %r failed in an unforeseen way", path, exc_info=error, extra=extra)
    return message_answer(500, status.INTERNAL_MESSAGE)._replace(error=Internal.__name__)
