"""What is fuzzed of the gRPC transport: HTTP/2 as a server hears it, and gRPC's messages in its data.

Of HTTP/2 the first byte says how the rest is cut, of the messages it says which encoding was announced and how the rest
is cut. However that is, the same must come of it; and what is sent in answer must be frames.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import hpack
from http2.peers import REQUEST, Echo

from ortolan.errors import Internal, InvalidArgument, Unsupported
from ortolan.http2 import frames
from ortolan.http2.connection import Http2Connection
from ortolan.http2.limits import Http2Limits
from ortolan.protocol.grpc_framing import ByteCount, MessageReader, decompressed, framed

LIMITS = Http2Limits(concurrent_streams=16, stream_window=4096, connection_window=1 << 16, calm_budget=100)
PIECES = (1, 2, 9, 10, 100, 1000, 1 << 20)
MESSAGE_LIMIT = 10_000
ENCODINGS = ("identity", "gzip", "deflate", "br")


@dataclass
class Heard:
    """What became of a client's bytes."""

    bodies: dict[int, bytes]
    open_streams: set[int]
    fault: str
    sent: bytes


def read_http2(data: bytes) -> Heard:
    """Raises InvalidArgument where the connection ended for a fault."""
    heard = listen(data[1:], PIECES[data[0] % len(PIECES)] if data else 1)
    if heard.fault:
        _check_frames(heard.sent)
        raise InvalidArgument(heard.fault)
    return heard


def verify_http2(heard: Heard, data: bytes) -> None:
    whole = listen(data[1:], 1 << 20)
    assert (whole.bodies, whole.open_streams, whole.fault) == (heard.bodies, heard.open_streams, heard.fault)
    for kind, _, stream, _ in _check_frames(heard.sent):
        assert not stream or stream in heard.bodies or kind in (frames.RST_STREAM, frames.WINDOW_UPDATE)


def listen(data: bytes, piece_bytes: int) -> Heard:
    echo = Echo()
    server = echo.connection = Http2Connection(LIMITS, echo, 0.0)
    server.open()
    sent = b""
    received = frames.PREFACE + frames.settings({}) + data
    for at in range(0, len(received), piece_bytes):
        server.receive(received[at : at + piece_bytes], 0.0)
        sent += b"".join(b"".join(pieces) for pieces in iter(server.to_send, []))
    assert len(server.streams) <= LIMITS.concurrent_streams
    assert server.outgoing.unsent_bytes == sum(stream.unsent_bytes for stream in server.streams.values())
    fault = server.fault.message if server.fault else ""
    assert not (fault and server.streams)
    return Heard({stream: bytes(body) for stream, body in echo.bodies.items()}, {*server.streams}, fault, sent)


def http2_exchanges() -> Iterator[bytes]:
    """For each way to cut them: requests, large and small, that end in every way, and all other frames."""
    for cut in range(len(PIECES)):
        encoder = hpack.Encoder()
        yield bytes([cut]) + b"".join(_call(encoder, stream, b"body" * stream) for stream in (1, 3, 5))
        yield bytes([cut]) + b"".join(_others(encoder))
        long = hpack.Encoder().encode([*REQUEST, ("x", "y" * 200)])
        pieces = [frames.head(50, frames.HEADERS, 0, 1) + long[:50], frames.head(len(long) - 50, 9, 4, 1) + long[50:]]
        yield bytes([cut]) + b"".join(pieces) + frames.head(3, frames.DATA, 1, 1) + b"end"


def altered_http2(data: bytes, random: Random) -> bytes | None:
    """The frames with one to three of them altered, in another order, twice or left out."""
    found = list(_frames(data[1:]))
    if not found:
        return None
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(found))
        kind, flags, stream, payload = found[at]
        found[at] = random.choice(
            [
                (random.randrange(12), flags, stream, payload),
                (kind, flags ^ 1 << random.randrange(8), stream, payload),
                (kind, flags, random.choice([0, 1, 2, 3, 5, 7, 2**31 - 1]), payload),
                (kind, flags, stream, payload[: random.randrange(len(payload) + 1)]),
                (kind, flags, stream, payload + random.randbytes(random.randrange(20))),
                (kind, flags, stream, random.randbytes(random.choice([0, 1, 4, 5, 6, 8]))),
                found[random.randrange(len(found))],
            ]
        )
        if random.random() < 0.3:
            found.insert(random.randrange(len(found) + 1), random.choice(found))
        if random.random() < 0.2 and len(found) > 1:
            found.pop(random.randrange(len(found)))
    return data[:1] + b"".join(frames.head(len(frame[3]), *frame[:3]) + frame[3] for frame in found)


def read_messages(data: bytes) -> list[bytes]:
    choice = data[0] if data else 0
    try:
        return _messages(data[1:], ENCODINGS[choice % 4], PIECES[choice // 4 % len(PIECES)])
    except (Unsupported, Internal) as error:
        raise InvalidArgument(error.message) from None


def verify_messages(messages: list[bytes], data: bytes) -> None:
    assert messages == _messages(data[1:], ENCODINGS[data[0] % 4] if data else "", 1 << 20)
    written = b"".join(b"".join(framed(message)) for message in messages)
    assert _messages(written, "identity", 7) == messages


def message_streams() -> Iterator[bytes]:
    for choice in range(4 * len(PIECES)):
        encoding = None if choice % 4 in (0, 3) else ENCODINGS[choice % 4]
        yield bytes([choice]) + b"".join(b"".join(framed(message, encoding)) for message in (b"one", b"", b"x" * 5000))


def altered_messages(data: bytes, random: Random) -> bytes | None:
    """One of the prefixes altered."""
    places = [0]
    while places[-1] + 6 <= len(data) - 1:
        places.append(places[-1] + 5 + struct.unpack_from(">L", data, places[-1] + 2)[0])
    at = 1 + random.choice(places)
    prefix = struct.pack(
        ">BL", random.choice([0, 1, 2, 255]), random.choice([0, 1, 3, 5000, 10_000, 10_001, 2**32 - 1])
    )
    return data[:at] + prefix + data[at + 5 :]


def _messages(data: bytes, encoding: str, piece_bytes: int) -> list[bytes]:
    count = ByteCount()
    reader = MessageReader(MESSAGE_LIMIT, encoding, count)
    found = []
    for at in range(0, len(data), piece_bytes):
        reader.feed(memoryview(data)[at : at + piece_bytes])
        assert count.bytes == reader.held_bytes >= 0
        while reader.whole:
            found.append(decompressed(reader.take(), MESSAGE_LIMIT))
            assert len(found[-1]) <= MESSAGE_LIMIT
    reader.drop()
    assert count.bytes == 0
    return found


def _call(encoder: hpack.Encoder, stream: int, body: bytes) -> bytes:
    data = frames.head(len(body) + 3, frames.DATA, frames.PADDED | frames.END_STREAM, stream) + b"\2" + body + b"\0\0"
    return frames.header_frames(stream, encoder.encode(REQUEST), False, 16_384) + data


def _others(encoder: hpack.Encoder) -> Iterator[bytes]:
    yield frames.settings({frames.INITIAL_WINDOW_SIZE: 2, frames.MAX_FRAME_SIZE: 20_000, frames.HEADER_TABLE_SIZE: 0})
    yield frames.settings_ack()
    yield _call(encoder, 1, b"waits")
    yield frames.ping(b"12345678")
    yield frames.window_update(1, 2)
    yield frames.window_update(0, 1000)
    yield frames.head(5, frames.PRIORITY, 0, 3) + bytes(5)
    yield frames.head(3, 0x42, 0, 3) + b"new"
    yield frames.header_frames(3, encoder.encode(REQUEST), False, 16_384)
    yield frames.rst_stream(3, 8)
    yield frames.settings({frames.INITIAL_WINDOW_SIZE: 1000})
    yield frames.goaway(0, 0, b"bye")


def _check_frames(sent: bytes) -> list[tuple[int, int, int, bytes]]:
    found = list(_frames(sent))
    assert sum(9 + len(payload) for *_, payload in found) == len(sent)
    decoder = hpack.Decoder()
    for kind, flags, _, payload in found:
        if kind == frames.HEADERS:
            assert flags & frames.END_HEADERS
            assert decoder.decode(payload)
    return found


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream, payload; an incomplete one at the end is left out."""
    at = 0
    while at + frames.HEAD_BYTES <= len(data):
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
        at += frames.HEAD_BYTES + (high << 8 | low)
        if at > len(data):
            return
        yield kind, flags, stream, data[at - (high << 8 | low) : at]
