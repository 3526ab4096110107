"""Frames as bytes (RFC 9113, sections 4 and 6)."""

import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD_BYTES = 9
LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
SMALLEST_MAX_FRAME = 16_384
LARGEST_MAX_FRAME = 2**24 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

HEAD = struct.Struct(">HBBBL")
"""Length (its upper 16 bits, its lower 8), type, flags, stream."""
SETTING = struct.Struct(">HL")
WORD = struct.Struct(">L")
_TWO_WORDS = struct.Struct(">LL")


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The head of a frame with ``length`` bytes after it."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def header_frames(stream_id: int, block: bytes, end: bool, max_frame: int) -> bytes:
    """A block of headers as HEADERS, with CONTINUATIONs where it is larger than ``max_frame`` bytes."""
    flags = END_STREAM if end else 0
    if len(block) <= max_frame:
        return head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    pieces = [head(max_frame, HEADERS, flags, stream_id), block[:max_frame]]
    for at in range(max_frame, len(block), max_frame):
        piece = block[at : at + max_frame]
        last = at + max_frame >= len(block)
        pieces += (head(len(piece), CONTINUATION, END_HEADERS if last else 0, stream_id), piece)
    return b"".join(pieces)


def rst_stream(stream_id: int, code: int) -> bytes:
    return head(4, RST_STREAM, 0, stream_id) + WORD.pack(code)


def settings(values: Mapping[int, int]) -> bytes:
    return head(6 * len(values), SETTINGS, 0, 0) + b"".join([SETTING.pack(*pair) for pair in values.items()])


def settings_ack() -> bytes:
    return head(0, SETTINGS, ACK, 0)


def ping(payload: bytes, ack: bool = False) -> bytes:
    """``payload``: 8 bytes that the peer sends back."""
    return head(8, PING, ACK if ack else 0, 0) + payload


def goaway(last_stream_id: int, code: int, why: bytes = b"") -> bytes:
    return head(8 + len(why), GOAWAY, 0, 0) + _TWO_WORDS.pack(last_stream_id, code) + why


def window_update(stream_id: int, more: int) -> bytes:
    """``more`` bytes may be sent on the stream, or on the whole connection where ``stream_id`` is 0."""
    return head(4, WINDOW_UPDATE, 0, stream_id) + WORD.pack(more)
