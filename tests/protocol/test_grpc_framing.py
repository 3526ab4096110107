"""Messages of gRPC in the data of a stream."""

import gzip
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import Internal, InvalidArgument, MessageTooLarge, OrtolanError, Unsupported
from ortolan.protocol.grpc_framing import ByteCount, MessageReader, decompressed, framed

LIMIT = 1000


def reading(encoding: str = "identity", count: ByteCount | None = None) -> MessageReader:
    return MessageReader(LIMIT, encoding, count or ByteCount())


def taken(reader: MessageReader) -> list[bytes]:
    return [decompressed(reader.take(), LIMIT) for _ in range(reader.whole)]


def read(reader: MessageReader, *pieces: bytes | memoryview) -> list[bytes]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        found += taken(reader)
    return found


def prefixed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BL", flag, len(message)) + message


@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 200))
def test_messages_come_out_as_they_went_in_however_the_data_are_cut(messages: list[bytes], piece_bytes: int) -> None:
    data = b"".join(b"".join(framed(message)) for message in messages)
    reader = reading()
    assert read(reader, *(data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))) == messages
    assert not reader.within


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.sampled_from(["gzip", "deflate"]))
def test_compressed_messages_come_out_as_they_went_in(messages: list[bytes], encoding: str) -> None:
    data = b"".join(b"".join(framed(message, encoding)) for message in messages)
    assert read(reading(encoding), memoryview(data)) == messages


def test_an_uncompressed_message_may_come_where_compression_was_announced() -> None:
    assert read(reading("gzip"), prefixed(b"plain")) == [b"plain"]


@pytest.mark.parametrize(
    ("data", "encoding", "kind", "said"),
    [
        (struct.pack(">BL", 0, LIMIT + 1), "identity", MessageTooLarge, "larger than max (1001 vs. 1000)"),
        (prefixed(bytes(LIMIT + 1)), "identity", MessageTooLarge, "larger than max (1001 vs. 1000)"),
        (prefixed(gzip.compress(bytes(LIMIT + 1), mtime=0), 1), "gzip", MessageTooLarge, "decompressed"),
        (prefixed(zlib.compress(bytes(900_000)), 1), "deflate", MessageTooLarge, "decompressed"),
        (prefixed(b"x", 1), "identity", Internal, "does not say how"),
        (prefixed(b"x", 1), "br", Unsupported, "send identity, gzip or deflate"),
        (prefixed(b"not compressed", 1), "gzip", InvalidArgument, "is not gzip data"),
        (prefixed(gzip.compress(b"abc" * 50, mtime=0)[:-9], 1), "gzip", InvalidArgument, "end too early"),
        (
            prefixed(gzip.compress(b"abc", mtime=0) + b"more", 1),
            "gzip",
            InvalidArgument,
            "something behind its gzip data",
        ),
        (prefixed(b"x", 2), "gzip", InvalidArgument, "compressed-flag must be 0 or 1, got 2"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_what_is_no_message_is_refused(
    data: bytes, encoding: str, kind: type[OrtolanError], said: str, piece_bytes: int
) -> None:
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    with pytest.raises(kind) as refused:
        read(reading(encoding), *pieces)
    assert said in refused.value.message


def test_a_part_of_a_message_is_told_from_a_whole_one() -> None:
    reader = reading()
    assert read(reader, b"\0\0") == []
    assert reader.within
    assert read(reader, b"\0\0\2a") == []
    assert reader.within
    assert read(reader, b"b") == [b"ab"]
    assert not reader.within


def test_what_waits_is_counted_until_it_is_taken_or_dropped() -> None:
    count = ByteCount()
    reader, other = reading(count=count), reading(count=count)
    reader.feed(prefixed(bytes(300)) + prefixed(bytes(200))[:105])
    other.feed(prefixed(bytes(900))[:605])
    assert 1000 <= count.bytes == reader.held_bytes + other.held_bytes <= 1200
    taken(reader)
    assert reader.held_bytes == 100
    reader.feed(bytes(100))
    taken(reader)
    assert count.bytes == other.held_bytes == 600
    other.drop()
    assert count.bytes == 0


def test_empty_messages_that_wait_count_for_what_they_take() -> None:
    count = ByteCount()
    reading(count=count).feed(prefixed(b"") * 1000)
    assert count.bytes >= 50_000


def test_a_compressed_message_waits_compressed() -> None:
    count = ByteCount()
    reading("gzip", count).feed(prefixed(gzip.compress(bytes(LIMIT)), 1) * 100)
    assert count.bytes < 100 * LIMIT / 4


@pytest.mark.parametrize("piece_bytes", [2, 5000])
def test_a_part_of_a_message_takes_little_more_than_its_bytes(piece_bytes: int) -> None:
    """Pieces of two bytes are objects of fifty; a piece of 5,000 may be a view of a quarter of a megabyte."""
    reader = MessageReader(1 << 20, "identity", ByteCount())
    received = [bytes(piece_bytes) if piece_bytes < 4096 else bytes(1 << 18) for _ in range(15_000 // piece_bytes)]
    tracemalloc.start()
    try:
        reader.feed(prefixed(bytes(1 << 20))[:5])
        while received:
            reader.feed(memoryview(received.pop())[:piece_bytes])
        assert reader.held_bytes == 15_000
        assert tracemalloc.get_traced_memory()[0] < 30_000
    finally:
        tracemalloc.stop()
