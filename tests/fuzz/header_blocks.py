"""What is fuzzed of HPACK: blocks of header fields, one after the other on one connection, as a server reads them.

Before each block a byte says how long it is. Each is read twice, and whatever is remembered of those before, it must
mean what hpack's own decoder makes of it, which remembers none of them.
"""

from collections.abc import Iterator
from random import Random

import hpack
from http2.peers import REQUEST

from ortolan.errors import InvalidArgument
from ortolan.http2.faults import ConnectionFault
from ortolan.http2.header_blocks import Field, HeaderReader, encode
from ortolan.http2.limits import Http2Limits

LIMITS = Http2Limits(header_list_bytes=1024)
_MOST_LIST_BYTES = 4 * LIMITS.header_list_bytes
_FIELD_OVERHEAD = 32
_TIMES = 2


def read(data: bytes) -> list[tuple[Field, ...]]:
    """The fields of all blocks. Raises InvalidArgument for what ends the connection."""
    reader, decoder = HeaderReader(LIMITS), hpack.Decoder(_MOST_LIST_BYTES)
    found = []
    for block in _blocks(data) * _TIMES:
        expected = _decoded(decoder, block)
        try:
            fields, effort = reader.read(block)
        except ConnectionFault as fault:
            assert expected is None or len(_size_updates(block)) > 1
            raise InvalidArgument(fault.message) from None
        assert fields.fields == expected
        assert fields.too_large == (_list_bytes(fields.fields) > LIMITS.header_list_bytes)
        assert 0 <= effort <= len(block)
        found.append(fields.fields)
    return found


def verify(found: list[tuple[Field, ...]], data: bytes) -> None:
    """What was understood can be said again, and is then understood alike."""
    for fields in found:
        assert _list_bytes(fields) <= _MOST_LIST_BYTES
        assert HeaderReader(LIMITS).read(encode(fields))[0].fields == fields


def blocks() -> Iterator[bytes]:
    """Requests, in Huffman's code and not, which use the table that both sides keep, change its size and fill it."""
    for huffman in (True, False):
        for size in (4096, 0, 64, 200):
            encoder = hpack.Encoder()
            encoder.header_table_size = size
            fields = [*REQUEST, ("x-mine", "é" * 5)]
            yield _joined([encoder.encode(fields, huffman=huffman), encoder.encode(fields[:3], huffman=huffman)])
            others = [encoder.encode([(f"x-{number}", "y" * number)], huffman=huffman) for number in range(40)]
            yield _joined(others)
    yield _joined([encode([(b":status", b"200"), (b"x", b"")]), b"\x20\x3f\xe1\x1f", b"\x82\x86\x84"])


def altered(data: bytes, random: Random) -> bytes | None:
    """The blocks in another order, one of them altered, cut off or there twice."""
    found = _blocks(data)
    if not found:
        return None
    at = random.randrange(len(found))
    block = found[at]
    place = random.randrange(len(block) + 1)
    found[at] = random.choice(
        [
            block[:place] + bytes([random.choice((0x20, 0x3F, 0x7F, 0x80, 0xBE, 0xFF, 0x0F))]) + block[place:],
            block[:place],
            block[:place] + bytes([random.randrange(256)]) + block[place + 1 :],
            random.choice(found),
        ]
    )
    random.shuffle(found)
    return _joined(found)


def _blocks(data: bytes) -> list[bytes]:
    found = []
    while data:
        found.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return found


def _joined(found: list[bytes]) -> bytes:
    return b"".join(bytes([len(block)]) + block for block in (block[:255] for block in found))


def _decoded(decoder: hpack.Decoder, block: bytes) -> tuple[Field, ...] | None:
    """The fields as the library reads them; None where it cannot."""
    try:
        return tuple((bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True))
    except hpack.HPACKError:
        return None


def _size_updates(block: bytes) -> bytes:
    return bytes(byte for byte in block if byte & 0xE0 == 0x20)


def _list_bytes(fields: tuple[Field, ...]) -> int:
    return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in fields)
