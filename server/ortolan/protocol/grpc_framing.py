"""gRPC's messages in the data of an HTTP/2 stream: a flag, a length of four bytes, and so many bytes.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import struct
import zlib
from collections import deque
from typing import NamedTuple

from ortolan.errors import Internal, InvalidArgument, MessageTooLarge, Unsupported
from ortolan.protocol.gathered_bytes import GatheredBytes
from ortolan.protocol.serialized import Raw, Serialized

ENCODINGS = ("gzip", "deflate")

_PREFIX = struct.Struct(">BL")
PREFIX_BYTES = _PREFIX.size

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# What an empty message takes of memory while it waits.
_OVERHEAD_BYTES = 100


class ByteCount:
    """How many bytes wait in all the readers that share it."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Message(NamedTuple):
    """One as it came; ``encoding`` says how it is compressed, None for not at all.

    ``data`` of one that came in pieces are a read-only view of the memory in which those were put together.
    """

    encoding: str | None
    data: Raw


def only_message(data: Raw, limit_bytes: int) -> Message | None:
    """The message that ``data`` are, where they are one and no more, not compressed and not too large."""
    if len(data) < PREFIX_BYTES:
        return None
    flag, length = _PREFIX.unpack_from(data)
    if flag or length + PREFIX_BYTES != len(data) or length > limit_bytes:
        return None
    return Message(None, bytes(data[PREFIX_BYTES:]))


class MessageReader:
    """Cuts one stream's data into messages, which wait here until they are taken, as they came.

    Data are copied once, as they come, and nothing that was received is kept.
    """

    __slots__ = (
        "_count",
        "_encoding",
        "_held_bytes",
        "_left",
        "_messages",
        "_packed",
        "_partial",
        "_prefix",
        "limit_bytes",
    )

    def __init__(self, limit_bytes: int, encoding: str, count: ByteCount) -> None:
        """``encoding``: what ``grpc-encoding`` says, "identity" without it. ``count`` learns what is held."""
        self.limit_bytes = limit_bytes
        self._encoding = encoding
        self._count = count
        self._prefix = b""
        self._packed: str | None = None
        self._left = -1
        self._partial: GatheredBytes | None = None
        self._messages: deque[Message] = deque()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes wait here."""
        return self._held_bytes

    @property
    def within(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._left >= 0 or bool(self._prefix)

    @property
    def whole(self) -> int:
        """How many messages can be taken."""
        return len(self._messages)

    def feed(self, data: Raw) -> None:
        """Take what came next.

        Raises MessageTooLarge as soon as a length says so, InvalidArgument for a flag that is none, Internal, as gRPC
        has it, for one that ``grpc-encoding`` does not explain, Unsupported for an encoding that is not known.
        """
        if self._left < 0 and not self._prefix and len(data) >= PREFIX_BYTES:
            length = self._begun(data)
            if len(data) == PREFIX_BYTES + length:
                self._left = -1
                self._whole(bytes(data[PREFIX_BYTES:]))
                return
            data = data[PREFIX_BYTES:]
        self._feed(data)

    def take(self) -> Message:
        """The next message. Raises IndexError where there is none."""
        message = self._messages.popleft()
        self._hold(-len(message.data) - _OVERHEAD_BYTES)
        return message

    def drop(self) -> None:
        """Nobody wants any of it."""
        self._messages.clear()
        self._partial = None
        self._hold(-self._held_bytes)

    def _feed(self, data: Raw) -> None:
        at = 0
        while at < len(data) or self._left == 0:
            if self._left < 0:
                step = min(PREFIX_BYTES - len(self._prefix), len(data) - at)
                self._prefix += data[at : at + step]
                at += step
                if len(self._prefix) == PREFIX_BYTES:
                    prefix, self._prefix = self._prefix, b""
                    self._begun(prefix)
                continue
            step = min(self._left, len(data) - at)
            if step:
                self._add(data[at : at + step], step)
                at += step
            if self._left == 0:
                self._left = -1
                partial, self._partial = self._partial, None
                if partial is None:
                    self._whole(b"")
                else:
                    self._hold(-partial.held_bytes)
                    self._whole(partial.whole())

    def _begun(self, prefix: Raw) -> int:
        """A message begins, whose length is returned."""
        flag, length = _PREFIX.unpack_from(prefix)
        if length > self.limit_bytes:
            raise MessageTooLarge(f"Received message larger than max ({length} vs. {self.limit_bytes})")
        self._packed = _how_packed(flag, self._encoding) if flag else None
        self._left = length
        return int(length)

    def _add(self, piece: Raw, size: int) -> None:
        if self._partial is None:
            self._partial = GatheredBytes(self._left)
        held_bytes = self._partial.held_bytes
        self._partial.add(piece)
        self._left -= size
        self._hold(self._partial.held_bytes - held_bytes)

    def _whole(self, message: Raw) -> None:
        self._messages.append(Message(self._packed, message))
        self._hold(len(message) + _OVERHEAD_BYTES)

    def _hold(self, more: int) -> None:
        self._held_bytes += more
        self._count.bytes += more


def framed(message: Serialized, encoding: str | None = None) -> tuple[Raw, ...]:
    """The prefix and the bytes of ``message``, compressed where ``encoding`` says how; in pieces."""
    pieces = message if isinstance(message, tuple) else (message,)
    if encoding is None:
        return (_PREFIX.pack(0, sum(map(len, pieces))), *pieces)
    packer = zlib.compressobj(1, wbits=_WINDOW_BITS[encoding])
    packed = [*map(packer.compress, pieces), packer.flush()]
    return (_PREFIX.pack(1, sum(map(len, packed))), *packed)


def decompressed(message: Message, limit_bytes: int) -> Raw:
    """The bytes of ``message`` as its sender had them. Never makes more than ``limit_bytes`` and one.

    Raises MessageTooLarge, or InvalidArgument for what is not compressed in the way that it says.
    """
    encoding = message.encoding
    if encoding is None:
        return message.data
    decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        found = decoder.decompress(message.data, limit_bytes + 1)
    except zlib.error:
        raise InvalidArgument(f"a message is not {encoding} data, as grpc-encoding says it is") from None
    if len(found) > limit_bytes:
        raise MessageTooLarge(f"Received message larger than max (over {limit_bytes} decompressed vs. {limit_bytes})")
    if not decoder.eof:
        raise InvalidArgument(f"a message's {encoding} data end too early")
    if decoder.unused_data:
        raise InvalidArgument(f"a message has something behind its {encoding} data")
    return found


def _how_packed(flag: int, encoding: str) -> str:
    """The encoding of a message whose flag is not 0."""
    if flag != 1:
        raise InvalidArgument(f"a message's compressed-flag must be 0 or 1, got {flag}")
    if encoding == "identity":
        raise Internal("a message says that it is compressed, and grpc-encoding does not say how")
    if encoding not in ENCODINGS:
        raise Unsupported(f"the message encoding {encoding[:32]!r} is not supported; send identity, gzip or deflate")
    return encoding


NO_READER = MessageReader(0, "identity", ByteCount())
"""In the place of a reader that nothing was fed to."""
