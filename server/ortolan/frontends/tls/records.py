"""TLS records in memory: what a socket brings and takes ⇄ what is said, without a socket, a clock or a loop."""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

Piece = bytes | bytearray | memoryview

RECORD_BYTES = 16 << 10
"""The most that is in one record (RFC 8446, section 5.1)."""

# Pieces up to here are sealed together; larger ones are not copied for that.
_JOINED_BYTES = 64 << 10
_SEALED_BYTES = 256 << 10


class TlsRecords:
    """The server's side of one connection. Raises ssl.SSLError for what is no TLS, or was changed on its way."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._nothing_comes = False
        self.ended = False
        """Whether everything has been read that the other side said."""

    def came(self, data: bytes) -> None:
        """The socket brought ``data``."""
        self._incoming.write(data)

    def nothing_comes(self) -> None:
        """The socket will bring nothing more."""
        # OpenSSL takes that for an attack, and would spoil the answers to what was said before.
        self._nothing_comes = True

    def to_send(self) -> bytes:
        """What the socket is to take."""
        return self._outgoing.read()

    def shake_hands(self) -> bool:
        """Whether the handshake is over. It may have something to send, also where it raises."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def opened(self) -> bytes:
        """All that was said. Several records are one piece, as several packets are without TLS."""
        first = cast("bytes", self._read(RECORD_BYTES) or b"")
        if not self.has_more:
            return first
        pieces = [first]
        while piece := self._read(RECORD_BYTES):
            pieces.append(cast("bytes", piece))
        return b"".join(pieces)

    def fill(self, memory: memoryview) -> int:
        """Open as much as ``memory`` takes, right into it; how many bytes."""
        filled = 0
        while filled < len(memory) and (size := self._read(len(memory) - filled, memory[filled:])):
            filled += cast("int", size)
        return filled

    @property
    def has_more(self) -> bool:
        """Whether something is there that was not opened, be it a part of a record."""
        return bool(self._incoming.pending or self.tls.pending() or (self._nothing_comes and not self.ended))

    def seal_small(self, piece: bytes) -> bytes:
        """As ``seal``, for what fits in one record and is not nothing."""
        self.tls.write(piece)
        return self._outgoing.read()

    def seal(self, pieces: Iterable[Piece]) -> list[bytes]:
        """What the socket is to take for ``pieces`` to be said."""
        sealed: list[bytes] = []
        for piece in _joined(pieces):
            left = memoryview(piece)
            while left:
                left = left[self.tls.write(left) :]
                if self._outgoing.pending >= _SEALED_BYTES:
                    sealed.append(self.to_send())
        sealed.append(self.to_send())
        return sealed

    def say_end(self) -> None:
        """The farewell of TLS, without which the other side cannot know that nothing was cut off."""
        # It would wait for the other's.
        with suppress(ssl.SSLError):
            self.tls.unwrap()

    def _read(self, size: int, *memory: Any) -> bytes | int:
        """One record, or how much of it went to ``memory``; nothing where no whole one is there."""
        # To be told by an exception that there is nothing costs more.
        if self._incoming.pending or self.tls.pending():
            try:
                found: bytes | int = self.tls.read(size, *memory)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self.ended = True
                return 0
            else:
                self.ended = not found
                return found
        self.ended = self.ended or self._nothing_comes
        return 0


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """``pieces`` as bytes, the small ones in one: what is sealed by itself becomes a record, with 22 bytes more."""
    views = [piece if isinstance(piece, bytes) else memoryview(piece) for piece in pieces]
    views = [view if isinstance(view, bytes) else view.cast("B") for view in views if memoryview(view).nbytes]
    if len(views) > 1 and sum(map(len, views)) <= _JOINED_BYTES:
        return (b"".join(views),)
    return views
