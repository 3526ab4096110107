"""A gRPC response on a stream of HTTP/2: fields, messages, and a status at the end."""

from collections.abc import Iterable
from urllib.parse import quote_from_bytes

import grpc

from ortolan.core.error_responses import GRPC, ErrorResponses
from ortolan.core.request_note import GONE_CODE, RequestNote
from ortolan.http2.connection import Http2Connection
from ortolan.http2.header_blocks import encode
from ortolan.http2.stream import Stream
from ortolan.protocol.grpc_framing import PREFIX_BYTES, framed
from ortolan.protocol.serialized import Raw, Serialized, size_bytes

_BEGIN = encode(
    (
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,deflate,gzip"),
    )
)
_HEADERS: dict[str | None, bytes] = {
    None: _BEGIN,
    "gzip": _BEGIN + encode(((b"grpc-encoding", b"gzip"),)),
    "deflate": _BEGIN + encode(((b"grpc-encoding", b"deflate"),)),
}
_OK = encode(((b"grpc-status", b"0"),))
# One piece is cheaper to send than two, up to about here; more would not fit the smallest of frames.
_JOINED_BYTES = 16_379
# What percent-encoding leaves as it is: printable ASCII but "%".
_PLAIN = bytes(set(range(0x20, 0x7F)) - {0x25}).decode()


class Http2Answer:
    """The response to one call."""

    __slots__ = ("_begun", "_ended", "_errors", "_http2", "_stream", "encoding", "note")

    def __init__(
        self,
        http2: Http2Connection,
        stream: Stream,
        errors: ErrorResponses | None = None,
        note: RequestNote | None = None,
    ) -> None:
        """``errors``: where it is counted when the call fails; ``note``: where it is noted how it ends."""
        self._errors = errors
        self.note = note
        self._http2 = http2
        self._stream = stream
        self._begun = False
        self._ended = False
        self.encoding: str | None = None
        """How the messages are compressed; set before the first of them."""

    @property
    def waiting_bytes(self) -> int:
        """What the client's windows do not let through yet."""
        return self._stream.unsent_bytes

    @property
    def received_bytes(self) -> int:
        """How many bytes of the request came."""
        return self._stream.taken

    @property
    def may_receive(self) -> bool:
        """Whether our window lets the client send."""
        return self._stream.receiving and self._stream.receive_window > 0

    def take_more(self, size: int) -> None:
        """Of the request's data ``size`` bytes need no room any more."""
        self._http2.consumed(self._stream, size)

    def message(self, pieces: tuple[Raw, ...]) -> None:
        """``pieces``: one message, framed, and compressed as ``encoding`` says."""
        if not self._begun:
            self._begun = True
            self._http2.send_headers(self._stream, _HEADERS[self.encoding])
        if self.note is not None:
            self.note.bytes_out += size_bytes(pieces)
        if size_bytes(pieces) <= PREFIX_BYTES + _JOINED_BYTES:
            self._http2.send_data(self._stream, b"".join(pieces))
            return
        for piece in filter(len, pieces):
            self._http2.send_data(self._stream, piece)

    def whole(self, message: Serialized, trailers: Iterable[tuple[str, str]]) -> None:
        """The one message of a call that succeeded, where it is not compressed."""
        small = size_bytes(message) <= _JOINED_BYTES
        if not small or not self._http2.send_response(
            self._stream, _BEGIN, b"".join(framed(message)), _ending(trailers)
        ):
            self.message(framed(message))
            self.finish(trailers)
        elif self.note is not None:
            self.note.bytes_out = size_bytes(message) + PREFIX_BYTES
            self._note("OK")

    def finish(self, trailers: Iterable[tuple[str, str]] = ()) -> None:
        """The call succeeded."""
        if not self._begun:
            self._begun = True
            self._http2.send_headers(self._stream, _HEADERS[self.encoding])
        self._note("OK")
        self._end(_ending(trailers))

    def gone(self) -> None:
        """Nobody waits for it any more."""
        self._note(GONE_CODE)

    def fail(self, code: grpc.StatusCode, message: str, trailers: Iterable[tuple[str, str]] = ()) -> None:
        """The call ends with an error. Characters that a header cannot carry are percent-encoded."""
        self._count(code)
        self._note(code.name)
        number = str(code.value[0]).encode()
        text = quote_from_bytes(message.encode(errors="replace"), safe=_PLAIN).encode()
        block = encode(((b"grpc-status", number), (b"grpc-message", text)))
        if trailers:
            block += encode((name.encode(), value.encode()) for name, value in trailers)
        self._end(block if self._begun else _BEGIN + block)

    def refuse(self, http_status: int, message: str) -> None:
        """The request is no gRPC call at all."""
        self._count(grpc.StatusCode.UNKNOWN)
        self._note(http_status)
        status = (b":status", str(http_status).encode())
        self._end(encode((status, (b"grpc-status", b"2"), (b"grpc-message", message.encode()))))

    def _count(self, code: grpc.StatusCode) -> None:
        # A client that has gone is told nothing.
        if self._errors is not None and self._stream.sending and not self._ended:
            self._errors.told(GRPC, code.name)

    def _note(self, code: int | str) -> None:
        """How it ends; what comes later does not count."""
        if self.note is not None:
            self.note.bytes_in = self._stream.taken
            self.note.answered(code)

    def _end(self, block: bytes) -> None:
        # It may have to wait for the client's windows, and then nothing that happens changes it any more.
        if not self._ended:
            self._ended = True
            self._http2.send_end(self._stream, block)


def _ending(trailers: Iterable[tuple[str, str]]) -> bytes:
    """The fields behind the last message of a call that succeeded."""
    return _OK + encode((name.encode(), value.encode()) for name, value in trailers) if trailers else _OK
