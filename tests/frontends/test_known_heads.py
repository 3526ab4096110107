"""Heads that came before: what is answered is what would be answered if they were parsed."""

from dataclasses import replace

import pytest

from ortolan.frontends.rest.known_heads import LONGEST_BYTES, KnownHead, KnownHeads

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"
KNOWN = KnownHead("/v2/models/m/infer", ("m", ""), [(b"host", b"here")], {b"host": b"here"}, 4)


def test_a_whole_request_with_a_known_head_is_found_whatever_its_body() -> None:
    heads = KnownHeads()
    assert heads.find(HEAD + b"1234") is None
    heads.learn(HEAD + b"1234", KNOWN)
    assert heads.find(HEAD + b"\r\n\r\n") == (KNOWN, len(HEAD), None)


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


@pytest.mark.parametrize("start", [b"\r\n", b"\n", b"\r", b"\r\n\r\n"])
def test_a_header_before_the_first_line_is_for_the_parser_which_refuses_it(start: bytes) -> None:
    heads = KnownHeads()
    heads.learn(start + HEAD + b"1234", KNOWN)
    heads.learn(HEAD + b"1234", KNOWN)
    for line in (b"X-Request-Id: a\r\n", b"traceparent: a\r\n", b"tracestate: a\r\n"):
        assert heads.find(start + line + HEAD + b"1234") is None
        assert heads.find(line + HEAD + b"1234") is None
        assert heads.find(start + b"\r\n" + line + HEAD + b"1234") is None


def test_long_heads_and_ever_new_ones_are_not_kept() -> None:
    heads = KnownHeads()
    long = HEAD.replace(b"here", b"h" * LONGEST_BYTES) + b"1234"
    heads.learn(long, KNOWN)
    assert heads.find(long) is None
    for number in range(2000):
        heads.learn(HEAD.replace(b"here", b"%d" % number) + b"1234", KNOWN)
    assert len(heads._known) <= 256


def with_line(line: bytes) -> bytes:
    """The head with a line more, which is not its last."""
    return HEAD.replace(b"Content-Length", line + b"\r\nContent-Length")


@pytest.mark.parametrize(
    ("line", "sent_id"),
    [
        (b"X-Request-Id: abc", b"abc"),
        (b"x-request-id:abc", b"abc"),
        (b"X-REQUEST-ID: \t a b \t", b"a b"),
        (b"x-request-id: " + b"x" * 128, b"x" * 128),
    ],
)
def test_heads_that_differ_in_their_ids_only_are_one(line: bytes, sent_id: bytes) -> None:
    heads = KnownHeads()
    heads.learn(with_line(b"X-Request-Id: first") + b"1234", KNOWN)
    assert heads.find(with_line(line) + b"5678") == (KNOWN, len(with_line(line)), sent_id)
    assert heads.find(HEAD + b"1234") == (KNOWN, len(HEAD), None)
    last = HEAD[:-2] + line + b"\r\n\r\n"
    assert heads.find(last + b"1234") == (KNOWN, len(last), sent_id)


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-Id: " + b"x" * 129,
        b"X-Request-Id:",
        b"X-Request-Id: a\x00b",
        b"X-Request-Id: a\rb",
        b"X-Request-Id: a\nb",
        b"X-Request-Id: gr\xc3\xb6\xc3\x9fe",
        # What follows belongs to it, for a parser that knows the older form of headers.
        b"X-Request-Id: a\r\n folded",
        b"X-Request-Id: a\r\nX-Request-Id: b",
        b"X-Request-Id : a",
        b" X-Request-Id: a",
        b"X-Request-Ids: a",
    ],
)
def test_what_is_not_plainly_one_id_is_for_the_parser(line: bytes) -> None:
    heads = KnownHeads()
    heads.learn(HEAD + b"1234", KNOWN)
    assert heads.find(with_line(line) + b"1234") is None
    if line.lower().startswith(b"x-request-id:"):
        heads.learn(with_line(line) + b"1234", KNOWN)
        assert heads.find(with_line(line) + b"1234") is None


def test_where_ids_are_looked_at_they_belong_to_the_head() -> None:
    heads = KnownHeads(passing=[])
    known = replace(KNOWN, by_name={**KNOWN.by_name, b"x-request-id": b"a"})
    data = with_line(b"X-Request-Id: a") + b"1234"
    heads.learn(data, known)
    assert heads.find(data) == (replace(known, request_id=b"a"), len(data) - 4, b"a")
    assert heads.find(with_line(b"X-Request-Id: b") + b"1234") is None
    assert heads.find(HEAD + b"1234") is None


PARENT = b"Traceparent: 00-%032x-%016x-01"


def test_heads_that_differ_in_their_callers_spans_only_are_one() -> None:
    heads = KnownHeads()
    for number in range(1, 2000):
        heads.learn(with_line(PARENT % (number, number) + b"\r\ntracestate: a=%d" % number) + b"1234", KNOWN)
    assert len(heads._known) == 1
    assert heads.find(HEAD + b"1234") == (KNOWN, len(HEAD), None)
    for lines in (
        PARENT % (1, 2),
        b"tracestate: a=1,b=2",
        b"tracestate:a=1\r\n" + PARENT % (3, 4) + b"\r\nX-Request-Id: me",
        b"X-Request-Id: me\r\nAccept: */*\r\n" + PARENT % (3, 4),
    ):
        data = with_line(lines) + b"5678"
        if b"Accept" in lines:
            assert heads.find(data) is None
            heads.learn(data, KNOWN)
        assert heads.find(data) == (KNOWN, len(data) - 4, b"me" if b"me" in lines else None)


@pytest.mark.parametrize("name", [b"traceparent", b"tracestate"])
@pytest.mark.parametrize(
    "lines",
    [
        b"%b: a\r\n folded",
        b"%b: a\r\n%b: b",
        b"%b:",
        b"%b: a\nb",
        b"%b: a\x00b",
        b"%b: " + b"x" * 513,
        b"%b : a",
        b" %b: a",
    ],
)
def test_what_is_not_plainly_one_callers_span_is_for_the_parser(name: bytes, lines: bytes) -> None:
    heads = KnownHeads()
    heads.learn(HEAD + b"1234", KNOWN)
    data = with_line(lines.replace(b"%b", name)) + b"1234"
    assert heads.find(data) is None
    if lines.startswith(b"%b:"):
        heads.learn(data, KNOWN)
        assert len(heads._known) == 1


@pytest.mark.parametrize("name", [b"traceparent", b"tracestate"])
def test_where_callers_spans_are_looked_at_heads_with_them_drive_out_no_others(name: bytes) -> None:
    heads = KnownHeads(passing=[b"x-request-id"])
    heads.learn(HEAD + b"1234", KNOWN)
    for number in range(2000):
        data = with_line(name + b": %d" % number) + b"1234"
        heads.learn(data, replace(KNOWN, by_name={**KNOWN.by_name, name: b"%d" % number}))
        assert heads.find(data) is None
    assert heads.find(HEAD + b"1234") == (KNOWN, len(HEAD), None)
