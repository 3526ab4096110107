import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument, UnsupportedEncoding
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.compression import ENCODINGS, compressed, decompressed, pays, preferred_encoding

LIMIT = BodyLimit(1 << 20)


@given(st.binary(max_size=5000), st.sampled_from(ENCODINGS))
def test_what_is_compressed_comes_back(body: bytes, encoding: str) -> None:
    assert decompressed(b"".join(compressed([body[:7], memoryview(body)[7:]], encoding)), encoding, LIMIT) == body


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS))
def test_no_bytes_whatever_raise_anything_else(body: bytes, encoding: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert len(decompressed(body, encoding, BodyLimit(100))) <= 100


def test_the_standard_tools_read_it() -> None:
    assert gzip.decompress(b"".join(compressed([b"a" * 5000], "gzip"))) == b"a" * 5000
    assert zlib.decompress(b"".join(compressed([b"a" * 5000], "deflate"))) == b"a" * 5000


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " deflate "])
def test_gzip_and_zlib_are_told_apart_by_their_heads(encoding: str) -> None:
    assert decompressed(gzip.compress(b"body"), encoding, LIMIT) == b"body"
    assert decompressed(zlib.compress(b"body"), encoding, LIMIT) == b"body"


def test_several_members_are_one_body() -> None:
    assert decompressed(gzip.compress(b"one") + gzip.compress(b"two"), "gzip", LIMIT) == b"onetwo"


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_identity_is_the_body_itself(encoding: str) -> None:
    assert decompressed(b"body", encoding, LIMIT) == b"body"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 1000])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="Unsupported compression type") as refused:
        decompressed(b"body", encoding, LIMIT)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    "body", [gzip.compress(b"body", mtime=0)[:-9], gzip.compress(b"b" * 5000, mtime=0)[:20], b"\x1f"]
)
def test_a_body_that_ends_early_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="ends before"):
        decompressed(body, "gzip", LIMIT)


def test_what_is_not_compressed_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="not gzip data"):
        decompressed(b'{"inputs": []}', "gzip", LIMIT)


def test_the_limit_is_exact_and_names_its_flag() -> None:
    assert decompressed(gzip.compress(b"a" * 1000), "gzip", BodyLimit(1000)) == b"a" * 1000
    with pytest.raises(InvalidArgument, match=r"maximum allowed input size of 1000 bytes.*--http-max-input-size"):
        decompressed(gzip.compress(b"a" * 1001), "gzip", BodyLimit(1000))
    with pytest.raises(InvalidArgument, match="--http-max-input-size"):
        decompressed(gzip.compress(b"a" * 600) * 2, "gzip", BodyLimit(1000))


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(256 << 20), 9)
    tracemalloc.start()
    with pytest.raises(InvalidArgument, match="--http-max-input-size"):
        decompressed(bomb, "gzip", LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LIMIT.most_bytes


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("GZip ; Q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("br, zstd", None),
        ("*", "gzip"),
        ("gzip;q=nonsense", None),
        ("gzip;q=7", None),
        (";;,,;q=1", None),
    ],
)
def test_the_encoding_that_the_client_ranks_highest_is_chosen(accept: str, expected: str | None) -> None:
    assert preferred_encoding(accept) == expected


def test_small_answers_are_sent_as_they_are() -> None:
    assert not pays(1023)
    assert pays(1024)


def test_members_may_end_anywhere() -> None:
    members = [gzip.compress(b"x"), *[gzip.compress(bytes([n]) * 99_999, 0) for n in range(30)], gzip.compress(b"")]
    expected = b"x" + b"".join(bytes([n]) * 99_999 for n in range(30))
    assert decompressed(b"".join(members), "gzip", BodyLimit(4 << 20)) == expected


def test_too_many_members_are_refused_before_they_cost_anything() -> None:
    empty = gzip.compress(b"")
    assert decompressed(empty * 1000, "gzip", LIMIT) == b""
    body = empty * 1_000_000
    tracemalloc.start()
    with pytest.raises(InvalidArgument, match="more than 1000 members"):
        decompressed(body, "gzip", LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # What follows a member is never copied.
    assert peak < 1 << 20
