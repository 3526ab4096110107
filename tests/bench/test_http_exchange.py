import pytest

from ortolan.bench.http_exchange import Answer, HttpExchange
from ortolan.bench.load import Form, PreparedRequest

REQUEST = PreparedRequest(Form.BINARY, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"hi")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_what_is_sent_is_what_was_prepared() -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, 1)
    assert exchange.outgoing() == REQUEST.head + REQUEST.body
    assert exchange.outgoing() == b""


@pytest.mark.parametrize("size", [1, 3, 7, len(OK)])
def test_answers_come_in_pieces_of_any_size(size: int) -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, "tag")
    answers = [answer for at in range(0, len(OK), size) for answer in exchange.receive(OK[at : at + size])]
    assert answers == [Answer("tag", "", b"hello")]
    assert exchange.lost() == []


def test_a_chunked_answer_is_put_together() -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, 1)
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    assert exchange.receive(data) == [Answer(1, "", b"hello")]


def test_another_status_is_a_failure() -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, 1)
    assert exchange.receive(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}") == [Answer(1, "503", b"{}")]
    assert not exchange.over


def test_a_server_that_will_close_is_noticed() -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, 1)
    exchange.receive(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert exchange.over


def test_a_request_without_an_answer_is_lost() -> None:
    exchange = HttpExchange()
    exchange.ask(REQUEST, 7)
    exchange.receive(b"HTTP/1.1 200 OK\r\n")
    assert exchange.lost() == [7]


def test_what_is_no_http_is_refused() -> None:
    with pytest.raises(ValueError, match="does not answer in HTTP"):
        HttpExchange().receive(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")
