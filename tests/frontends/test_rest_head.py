"""The fields of requests over HTTP/2 in ASGI's words."""

import pytest

from ortolan.errors import InvalidArgument
from ortolan.frontends.one_port.rest_head import RestHead, read_head
from ortolan.http2.header_blocks import Field, HeaderList


def head(*fields: Field, method: bytes = b"GET", path: bytes = b"/v2", too_large: bool = False) -> RestHead:
    pseudo = ((b":method", method), (b":scheme", b"http"), (b":path", path))
    return read_head(HeaderList((*pseudo, *fields), too_large))


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/v2", "/v2", b"/v2", b""),
        (b"/v2/a%2Fb%20%C3%A9/infer?x=%20&y", "/v2/a/b é/infer", b"/v2/a%2Fb%20%C3%A9/infer", b"x=%20&y"),
        (b"/?", "/", b"/", b""),
        (b"/a?b?c", "/a", b"/a", b"b?c"),
        (b"/%ff", "/�", b"/%ff", b""),
        (b"//x", "//x", b"//x", b""),
    ],
)
def test_the_path_is_told_as_it_came_and_decoded(target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    scope = head(path=target).scope
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)
    assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == ("http", "2", "GET", "http")


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ([(b"accept", b"*/*"), (b"x", b"1"), (b"x", b"2")], [(b"accept", b"*/*"), (b"x", b"1"), (b"x", b"2")]),
        ([(b"host", b"h")], [(b"host", b"h")]),
        ([(b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2")], [(b"x", b"1"), (b"cookie", b"a=1; b=2")]),
    ],
)
def test_headers_are_those_of_the_request(fields: list[Field], headers: list[Field]) -> None:
    assert [*head(*fields).headers] == headers


def test_the_authority_is_the_host() -> None:
    pseudo = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"here:80"))
    found = read_head(HeaderList((*pseudo, (b"host", b"here:80"), (b"x", b"1")), False))
    assert [*found.headers] == [(b"host", b"here:80"), (b"x", b"1")]
    with pytest.raises(InvalidArgument, match="Host differs from its :authority"):
        read_head(HeaderList((*pseudo, (b"host", b"elsewhere")), False))


def test_a_client_may_wait_to_be_asked_for_its_data() -> None:
    assert head((b"expect", b"100-continue")).expects_continue
    assert head((b"expect", b"100-Continue")).expects_continue
    assert not head().expects_continue


@pytest.mark.parametrize("method", [b"", b"get", b"GET ", b"G\xc3\x89T", b"A" * 33])
def test_a_method_that_is_none_is_refused(method: bytes) -> None:
    with pytest.raises(InvalidArgument, match=":method"):
        head(method=method)


@pytest.mark.parametrize("path", [b"*", b"v2", b"http://x/v2", b"/a b", b"/\xc3\xa9", b"/\x7f", b"/\t"])
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidArgument, match=":path"):
        head(path=path)


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="fields are too large"):
        head(too_large=True)
