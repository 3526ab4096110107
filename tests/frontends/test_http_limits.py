"""Which heads of requests are refused before anybody looks at what they ask for, and how long is too long."""

import math

import pytest

from ortolan.frontends.rest.http_limits import Pace, head_fault

HOST = (b"host", b"x")
CHUNKED = (b"transfer-encoding", b"chunked")

HEADS = [
    ("1.1", [HOST], None),
    ("1.1", [HOST, (b"accept", b"*/*")], None),
    ("1.1", [], (400, "needs a Host")),
    ("1.0", [], None),
    ("2", [], (400, "needs a Host")),
    ("1.1", [HOST, HOST], (400, "one Host, got 2")),
    ("1.0", [HOST, HOST], (400, "one Host, got 2")),
    ("1.1", [(b"host", b"a b")], (400, "a name or an address")),
    ("1.1", [(b"host", b"user@x")], (400, "a name or an address")),
    ("2", [(b"host", b"user@x")], (400, "a name or an address")),
    ("1.1", [HOST, CHUNKED], None),
    ("1.1", [HOST, (b"transfer-encoding", b" Chunked ")], None),
    ("1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")], (501, "'chunked' and no other")),
    ("1.1", [HOST, CHUNKED, CHUNKED], (501, "'chunked' and no other")),
    ("1.0", [HOST, CHUNKED], (400, "HTTP/1.0 has no Transfer-Encoding")),
    ("1.1", [HOST, (b"expect", b"100-continue")], None),
    ("1.1", [HOST, (b"expect", b"100-Continue")], None),
    ("1.0", [HOST, (b"expect", b"100-continue")], None),
    ("1.1", [HOST, (b"expect", b"banana")], (417, "'100-continue' and nothing else")),
    ("1.1", [HOST, (b"expect", b"")], (417, "'100-continue' and nothing else")),
    ("1.1", [HOST, (b"expect", b"100-continue"), (b"expect", b"more")], (417, "'100-continue'")),
    ("2", [HOST, (b"expect", b"banana")], (417, "'100-continue' and nothing else")),
    ("0.9", [], (505, "HTTP/0.9 is not spoken")),
    ("2.0", [HOST], (505, "HTTP/2.0 is not spoken")),
]


@pytest.mark.parametrize(("version", "headers", "fault"), HEADS)
def test_a_head_is_taken_or_refused_with_its_reason(
    version: str, headers: list[tuple[bytes, bytes]], fault: tuple[int, str] | None
) -> None:
    found = head_fault(headers, version)
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert (found[0], fault[1] in found[1]) == (fault[0], True), found


def test_what_moves_enough_has_time_again() -> None:
    pace = Pace(100, 60, now_s=0)
    assert pace.ends_s(10, 99) == 60
    assert pace.ends_s(50, 100) == 110
    assert pace.ends_s(109, 199) == 110
    assert pace.ends_s(109, 200) == 169


def test_what_rests_has_time_from_then_on() -> None:
    pace = Pace(math.inf, 10, now_s=0)
    pace.rest(9, 50)
    assert pace.ends_s(12, 50) == 19
