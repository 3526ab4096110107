"""Blocks of header fields: what is remembered of them, and what is made."""

import hpack
import pytest
from http2.peers import REQUEST
from hypothesis import given
from hypothesis import strategies as st

from ortolan.http2.faults import ConnectionFault, ErrorCode
from ortolan.http2.header_blocks import HeaderReader, encode
from ortolan.http2.limits import Http2Limits

NAMES = st.from_regex(rb"[a-z0-9-]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=8))
def test_what_we_encode_any_decoder_reads_and_so_do_we(fields: list[tuple[bytes, bytes]]) -> None:
    block = encode(fields)
    assert [tuple(field) for field in hpack.Decoder().decode(block, raw=True)] == fields
    assert [*HeaderReader(Http2Limits()).read(block)[0].fields] == fields


@given(st.lists(st.lists(st.tuples(NAMES, st.binary(max_size=30)), max_size=4), max_size=12), st.data())
def test_remembered_blocks_mean_the_same_as_decoded_ones(
    lists: list[list[tuple[bytes, bytes]]], data: st.DataObject
) -> None:
    encoder, reader = hpack.Encoder(), HeaderReader(Http2Limits())
    for fields in lists:
        if data.draw(st.booleans()):
            encoder.header_table_size = data.draw(st.sampled_from([0, 64, 200, 4096]))
        for _ in range(3):
            block = encoder.encode(fields, huffman=data.draw(st.booleans()))
            assert [*reader.read(block)[0].fields] == fields


def test_a_table_that_was_emptied_is_not_remembered() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader(Http2Limits())
    reader.read(encoder.encode([("x-mine", "1")]))
    reference = encoder.encode([("x-mine", "1")])
    assert reader.read(reference)[0] is reader.read(reference)[0]
    reader.read(b"\x20\x3f\xe1\x1f")
    with pytest.raises(ConnectionFault) as refused:
        reader.read(reference)
    assert refused.value.code == ErrorCode.COMPRESSION_ERROR


def test_what_is_remembered_is_bounded() -> None:
    reader = HeaderReader(Http2Limits())
    first = encode([(b"x", b"0")])
    found, _ = reader.read(first)
    assert reader.read(first)[0] is found
    for number in range(2000):
        reader.read(encode([(b"x", b"%d" % number)]))
    assert reader.read(first)[0] is not found
    large = b"\x83" * 1000
    assert reader.read(large)[0] is not reader.read(large)[0]


@given(st.dictionaries(NAMES.map(lambda name: b"x-" + name), st.binary(max_size=2000), max_size=40), st.booleans())
def test_what_decoding_costs_are_the_fields_and_the_bytes_in_huffmans_code(
    fields: dict[bytes, bytes], huffman: bool
) -> None:
    encoder = hpack.Encoder()
    block = encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields.items()], huffman=huffman)
    packed = sum(len(encoder.huffman_coder.encode(text)) for field in fields.items() for text in field)
    effort = len(fields) // 16 + (packed // 128 if huffman else 0)
    assert HeaderReader(Http2Limits()).read(block)[1] == (effort if len(block) >= 64 else 0)


def test_a_usual_block_costs_nothing_and_neither_does_one_that_comes_again() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader(Http2Limits())
    assert reader.read(encoder.encode(REQUEST))[1] == 0
    token = encoder.encode([*REQUEST, hpack.NeverIndexedHeaderTuple("authorization", "a" * 2000)])
    assert [reader.read(token)[1] > 0 for _ in range(3)] == [True, False, False]
