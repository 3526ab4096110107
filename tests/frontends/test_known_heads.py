"""Heads that came before: what is answered is what would be answered if they were parsed."""

import pytest

from ortolan.frontends.rest.known_heads import LONGEST_BYTES, KnownHead, KnownHeads

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"
KNOWN = KnownHead("/v2/models/m/infer", ("m", ""), [(b"host", b"here")], {b"host": b"here"}, 4)


def test_a_whole_request_with_a_known_head_is_found_whatever_its_body() -> None:
    heads = KnownHeads()
    assert heads.find(HEAD + b"1234") is None
    heads.learn(HEAD + b"1234", KNOWN)
    assert heads.find(HEAD + b"\r\n\r\n") == (KNOWN, len(HEAD))


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"123",
        HEAD + b"12345",
        HEAD + b"1234" + HEAD + b"1234",
        HEAD[:-1],
        b"\r\n" + HEAD + b"1234",
        HEAD.replace(b"here", b"Here") + b"1234",
        b"\r\n\r\n",
        b"",
    ],
)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    heads = KnownHeads()
    heads.learn(HEAD + b"1234", KNOWN)
    assert heads.find(data) is None


def test_what_is_no_single_whole_request_teaches_nothing() -> None:
    heads = KnownHeads()
    for data in (HEAD + b"123", HEAD + b"1234" + HEAD + b"1234", b"\r\n\r\n" + HEAD + b"1234"):
        heads.learn(data, KNOWN)
    assert heads.find(HEAD + b"1234") is None


def test_long_heads_and_ever_new_ones_are_not_kept() -> None:
    heads = KnownHeads()
    long = HEAD.replace(b"here", b"h" * LONGEST_BYTES) + b"1234"
    heads.learn(long, KNOWN)
    assert heads.find(long) is None
    for number in range(2000):
        heads.learn(HEAD.replace(b"here", b"%d" % number) + b"1234", KNOWN)
    assert len(heads._known) <= 256
