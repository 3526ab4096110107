"""TLS on one connection: the protocol of its TCP transport, and the transport of the protocol that speaks over it.

Event loops have this too, and hide what the bounds of connections are made of: uvloop's tells of no byte that waits
below TLS (of 64 MiB written to a client that does not read, 0), cannot end a connection in halves, has one time for
flushing an answer and for a client's farewell, and keeps from a client why its certificate was refused.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, cast

from ortolan.frontends.tls.identity import PEER_IDENTITY, PeerIdentity, identity_of
from ortolan.frontends.tls.records import RECORD_BYTES, Piece, TlsRecords

_log = logging.getLogger(__name__)

# How OpenSSL calls a request in the clear.
_PLAIN_HTTP = "HTTP_REQUEST"
_SPEAK_TLS = b"this port speaks HTTPS; begin the address with https://\n"
_SPEAK_TLS_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
) % (len(_SPEAK_TLS), _SPEAK_TLS)


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """Bytes of a socket ⇄ what a protocol reads and writes. Lives on the event loop."""

    def __init__(
        self, context: ssl.SSLContext, new_protocol: Callable[[], asyncio.BaseProtocol], handshake_s: float
    ) -> None:
        """``new_protocol`` is called when the handshake is over, which may take ``handshake_s``."""
        super().__init__()
        self._context = context
        self._new_protocol = new_protocol
        self._handshake_s = handshake_s
        self._records = TlsRecords(context)
        self._protocol: asyncio.BaseProtocol | None = None
        self._reading = True
        self._told_end = False
        self._said_end = False
        self._tcp: asyncio.Transport
        self._timer: asyncio.TimerHandle

    # What TCP tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._handshake_s, self._late)

    def data_received(self, data: bytes) -> None:
        if self._said_end:
            # Nobody listens. It is taken all the same: closing with something unread can cost the client the answer.
            return
        self._records.came(data)
        if self._protocol is None:
            self._shake_hands()
        else:
            self._hand_on()

    def eof_received(self) -> bool:
        """Whether the connection stays open for what is to be written."""
        if self._protocol is None or self._said_end:
            return False
        self._records.nothing_comes()
        self._hand_on()
        return not self._tcp.is_closing()

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)
        elif not self._said_end:
            self._note("the client went")

    # The handshake

    def _shake_hands(self) -> None:
        try:
            is_over = self._records.shake_hands()
        except ssl.SSLError as error:
            self._refuse(error)
            return
        self._flush()
        if is_over:
            self._timer.cancel()
            protocol = self._protocol = self._new_protocol()
            protocol.connection_made(self)
            self._hand_on()

    def _refuse(self, error: ssl.SSLError) -> None:
        """Say why, in TLS' words, or in those of who knows no TLS."""
        certificate = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else ""
        self._note(certificate or error.reason or "no TLS was spoken")
        self._said_end = True
        if error.reason == _PLAIN_HTTP:
            self._tcp.write(_SPEAK_TLS_ANSWER)
        else:
            self._flush()
        self._tcp.close()

    def _late(self) -> None:
        self._note(f"it took longer than {self._handshake_s:g} s")
        self.abort()

    def _note(self, reason: str) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            peer = self._tcp.get_extra_info("peername")
            host = peer[0] if isinstance(peer, tuple) else "a client"
            _log.debug("a TLS handshake with %s failed: %s", host, reason)

    # What comes

    def _hand_on(self) -> None:
        """Give the protocol what is there, until it wants no more."""
        try:
            while self._is_heard() and self._hand_on_once() and self._records.has_more:
                pass
        except ssl.SSLError as error:
            self._fail(error)
        if self._records.ended and self._is_heard() and not self._told_end:
            self._told_end = True
            if not cast("asyncio.Protocol", self._protocol).eof_received():
                self.close()

    def _hand_on_once(self) -> int:
        """How many bytes the protocol got."""
        records, protocol = self._records, self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            if size := records.fill(memoryview(protocol.get_buffer(-1))):
                protocol.buffer_updated(size)
            return size
        if data := records.opened():
            cast("asyncio.Protocol", protocol).data_received(data)
        return len(data)

    def _hand_on_later(self) -> None:
        try:
            self._hand_on()
        except BaseException:
            # As a loop does when a protocol fails.
            self.abort()
            raise

    def _is_heard(self) -> bool:
        """Whether the protocol listens."""
        return self._reading and self._protocol is not None and not self._said_end and not self._tcp.is_closing()

    def _fail(self, error: ssl.SSLError) -> None:
        _log.debug("a TLS connection failed: %s", error.reason)
        self._said_end = True
        self._flush()
        self._tcp.close()

    # The transport: what the protocol reads

    def pause_reading(self) -> None:
        self._reading = False
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().call_soon(self._hand_on_later)

    def is_reading(self) -> bool:
        return self._reading and self._tcp.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast("asyncio.BaseProtocol", self._protocol)

    # The transport: what the protocol writes

    def write(self, data: Piece) -> None:
        if type(data) is bytes and 0 < len(data) <= RECORD_BYTES and not self._said_end and not self._tcp.is_closing():
            try:
                self._tcp.write(self._records.seal_small(data))
            except ssl.SSLError as error:
                self._fail(error)
        else:
            self.writelines((data,))

    def writelines(self, list_of_data: Iterable[Piece]) -> None:
        """Raises RuntimeError after ``write_eof``."""
        if self._tcp.is_closing():
            return
        if self._said_end:
            raise RuntimeError("nothing can be written after write_eof()")
        try:
            sealed = self._records.seal(list_of_data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        # All at once, so that what waits is whole when the protocol is told to pause.
        if len(sealed) == 1:
            self._tcp.write(sealed[0])
        else:
            self._tcp.writelines(sealed)

    def can_write_eof(self) -> bool:
        return self._tcp.can_write_eof()

    def write_eof(self) -> None:
        """Say that nothing follows. What comes from now on is thrown away."""
        self._say_end()
        self._tcp.write_eof()

    def close(self) -> None:
        if not self._tcp.is_closing():
            self._say_end()
            self._tcp.close()

    def abort(self) -> None:
        self._said_end = True
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait, as they travel: a little more than what was written."""
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._tcp.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def _say_end(self) -> None:
        if not self._said_end:
            self._said_end = True
            self._records.say_end()
            self._flush()

    def _flush(self) -> None:
        if data := self._records.to_send():
            self._tcp.write(data)

    # The transport: what it tells of itself

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._records.tls
        if name == "sslcontext":
            return self._context
        if name == "peercert":
            return self._records.tls.getpeercert()
        if name == PEER_IDENTITY:
            return self._identity
        return self._tcp.get_extra_info(name, default)

    @cached_property
    def _identity(self) -> PeerIdentity | None:
        return identity_of(self._records.tls.getpeercert())
