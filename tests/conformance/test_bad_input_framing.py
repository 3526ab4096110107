"""Bad HTTP framing, row by row: refused with its reason, closed where nobody knows what comes next, and nobody harmed.

The rows are numbered as in our list of bad input; 1 to 24 are those of HTTP's framing.
"""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import onnx_models
import pytest
from callers import LONGEST_S
from conformance.bad_http_payloads import INFER, MIB, asking
from conformance.memory import peak_growth_bytes
from conformance.served import Served
from conformance.wire import Http
from server_process import ServerProcess, eventually, running

GOOD = asking()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
EXPECTING = "Expect: 100-continue"


def head(*headers: str, path: str = INFER, version: str = "HTTP/1.1", host: str = "Host: x\r\n") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"POST {path} {version}\r\n{host}{lines}\r\n".encode()


def length(size: int) -> str:
    return f"Content-Length: {size}"


WHOLE = head(length(len(GOOD))) + GOOD
SMUGGLED = b"0\r\n\r\n" + LIVE
TABLE = Path("/proc/net/tcp")
NO_HTTP = "Invalid HTTP request received: "

CLOSED = [
    (1, "two lengths", head("Content-Length: 4", "Content-Length: 5") + GOOD, 400, NO_HTTP + "Duplicate"),
    (1, "one length twice", head(length(len(GOOD)), length(len(GOOD))) + GOOD, 400, NO_HTTP + "Duplicate"),
    (2, "a length and chunks", head(length(5), CHUNKED) + SMUGGLED, 400, "can't be present with"),
    (2, "chunks and a length", head(CHUNKED, length(5)) + SMUGGLED, 400, "can't be present with"),
    (3, "an unknown coding", head("Transfer-Encoding: xchunked") + SMUGGLED, 501, "expects 'chunked'"),
    (3, "chunked twice", head(CHUNKED, CHUNKED) + SMUGGLED, 400, NO_HTTP),
    (4, "a coding before chunks", head("Transfer-Encoding: gzip, chunked") + SMUGGLED, 501, "Content-Encoding"),
    (5, "chunks in HTTP/1.0", head(CHUNKED, version="HTTP/1.0") + SMUGGLED, 400, "HTTP/1.0 has no Transfer-Encoding"),
    *((6, f"a length of {text}", head(f"Content-Length: {text}"), 400, NO_HTTP) for text in ("-1", "+3", "0x3", "3,3")),
    (7, "a length of 2^63", head(length(2**63)), 400, "--http-max-input-size"),
    (7, "of a route", head(length(2**63), path="/v2/repository/index"), 413, "--http-max-input-size"),
    (7, "a length past 64 bits", head(length(10**30)), 400, NO_HTTP + "Content-Length overflow"),
    (8, "a chunk past 64 bits", head(CHUNKED) + b"f" * 17 + b"\r\n", 400, NO_HTTP + "Chunk size overflow"),
    (8, "a negative chunk", head(CHUNKED) + b"-1\r\n", 400, NO_HTTP + "Invalid character in chunk size"),
    (9, "a chunk that does not end", head(CHUNKED) + b"1\r\n{XX0\r\n\r\n" + LIVE, 400, NO_HTTP),
    (11, "no host", head(host=""), 400, "needs a Host"),
    (11, "two hosts", head("Host: y"), 400, "one Host, got 2"),
    (11, "no name of a host", head(host="Host: a/b@c\r\n"), 400, "a name or an address"),
    (12, "a NUL in a value", head("X: a\0b"), 400, NO_HTTP + "Invalid header value"),
    (12, "a CR in a value", head("X: a\rb"), 400, NO_HTTP),
    (12, "a blank before the colon", head("X : a"), 400, NO_HTTP + "Invalid header token"),
    (13, "a folded line", head("X: a\r\n b"), 400, NO_HTTP),
    (13, "bare line feeds", LIVE.replace(b"\r", b""), 400, NO_HTTP),
    (14, "a header of a MiB", head("X: " + "a" * MIB), 431, "65536 bytes are allowed"),
    (14, "10,000 headers", head(*[f"X-{number}: y" for number in range(10_000)]), 431, "65536 bytes are allowed"),
    (15, "a path of a MiB", b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "target is too long"),
    (16, "HTTP/0.9", b"GET /v2/health/live\r\n\r\n", 505, "HTTP/0.9 is not spoken"),
    (16, "HTTP/2.0 in words of 1.1", LIVE.replace(b"/1.1", b"/2.0"), 505, "HTTP/2.0 is not spoken"),
    (17, "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2 is not spoken on this port"),
    (17, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512), 400, NO_HTTP + "Invalid method"),
    (22, "another expectation", head("Expect: banana", length(len(GOOD))) + GOOD, 417, "'100-continue' and nothing"),
    (23, "a body of a GiB", head(length(1 << 30)), 400, "--http-max-input-size"),
    (23, "of a route", head(length(1 << 30), path="/v2/repository/index"), 413, "--http-max-input-size"),
    (23, "that waits to be asked for", head(length(1 << 30), EXPECTING), 400, "--http-max-input-size"),
    (23, "that nobody wants", LIVE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1073741824\r\n\r\n"), 200, "live"),
]


def exchange(port: int, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), LONGEST_S) as raw:
        # Who is refused while it sends may find its connection closed.
        with contextlib.suppress(ConnectionError):
            raw.sendall(sent)
        return received(raw)


def received(raw: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65_536):
            answer += piece
    return answer


def assert_answers(server: ServerProcess) -> None:
    http = Http(server)
    assert http.post(INFER, GOOD).status == 200
    http.close()


@pytest.mark.parametrize(
    ("row", "what", "sent", "status", "said"), CLOSED, ids=[f"{row}: {what}" for row, what, *_ in CLOSED]
)
def test_bad_framing_is_refused_once_and_its_connection_closed(
    bad_input: Served, row: int, what: str, sent: bytes, status: int, said: str
) -> None:
    answer = exchange(bad_input.server.http_port, sent)
    (text,) = re.split(rb"HTTP/1\.1 (?=\d{3} )", answer)[1:]
    lines, _, body = text.decode().partition("\r\n\r\n")
    assert (int(lines[:3]), said in (json.loads(body).get("error") or body)) == (status, True), text
    assert_answers(bad_input.server)


def test_row_10_a_body_in_scraps_takes_no_more_memory_than_its_size(bad_input: Served) -> None:
    scraps = head(CHUNKED) + b"1\r\n \r\n" * (MIB // 2) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    with socket.create_connection(("127.0.0.1", bad_input.server.http_port), LONGEST_S) as raw:

        def send() -> None:
            raw.sendall(scraps)
            assert raw.recv(15) == b"HTTP/1.1 200 OK"

        assert peak_growth_bytes(bad_input.server, send) < 16 * MIB


def test_row_21_a_thousand_requests_that_are_sent_ahead_are_answered_in_their_order(bad_input: Served) -> None:
    ahead = b"".join(WHOLE if number % 10 else head(length(1)) + b"{" for number in range(1000))
    with socket.create_connection(("127.0.0.1", bad_input.server.http_port), LONGEST_S) as raw:
        raw.sendall(ahead)
        raw.shutdown(socket.SHUT_WR)
        answers = received(raw)
    # Who closes its side before the end gets no answer to what was not begun: all of it or the beginning.
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    assert statuses == [200 if number % 10 else 400 for number in range(len(statuses))]
    assert_answers(bad_input.server)


def test_row_24_a_client_that_vanishes_within_a_body_leaves_no_traceback(bad_input: Served) -> None:
    """The fixture looks for tracebacks in the log."""
    for sent in (WHOLE[:-5], head(length(MIB)) + bytes(100_000), head(CHUNKED) + b"9\r\n{"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", bad_input.server.http_port), LONGEST_S) as raw:
                raw.sendall(sent)
    assert_answers(bad_input.server)


async def test_a_flood_of_what_is_no_http_writes_a_line_a_second(bad_input: Served) -> None:
    def lines() -> int:
        return bad_input.log.read_text().count("sent what is no HTTP")

    async def send() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", bad_input.server.http_port)
        writer.write(b"garbage\r\n\r\n")
        await writer.drain()
        writer.close()

    before, loop = lines(), asyncio.get_running_loop()
    began_s = loop.time()
    for _ in range(20):
        await asyncio.gather(*[send() for _ in range(20)])
    assert eventually(lambda: lines() > before or before)
    assert lines() - before <= loop.time() - began_s + 2


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that waits for no one, and answers for one name only."""
    root: Path = tmp_path_factory.mktemp("hasty")
    onnx_models.save_version(root, "wide", onnx_models.widener(4_000_000))
    times = ("--http-header-timeout-secs=2", "--http-body-timeout-secs=1", "--http-write-timeout-secs=1")
    with running(root, *times, "--http-allowed-host=served.example") as server:
        yield server


def test_row_18_headers_that_never_end_are_given_up(hasty: ServerProcess) -> None:
    """Who says nothing at all is told nothing either."""
    with ExitStack() as stack:
        late = []
        for port in (hasty.http_port, hasty.metrics_port):
            for sent in (b"", b"GET /v2", LIVE[:-2]):
                raw = stack.enter_context(socket.create_connection(("127.0.0.1", port), LONGEST_S))
                raw.sendall(sent)
                late.append((sent, raw))
        for sent, raw in late:
            assert received(raw)[:13] == (b"HTTP/1.1 408 " if sent else b"")


@pytest.mark.parametrize("framing", [length(99), CHUNKED])
def test_row_19_a_body_that_never_ends_is_given_up(hasty: ServerProcess, framing: str) -> None:
    sent = head(framing, path="/v2/models/wide/infer", host="Host: served.example\r\n") + b"9\r\n{"
    assert exchange(hasty.http_port, sent).startswith(b"HTTP/1.1 408 ")


@pytest.mark.skipif(not TABLE.exists(), reason="only Linux tells which connections there are")
def test_row_20_who_never_reads_its_answer_is_left(hasty: ServerProcess) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    body = json.dumps({"inputs": [tensor]}).encode()
    with socket.create_connection(("127.0.0.1", hasty.http_port), LONGEST_S) as raw:
        raw.sendall(head(length(len(body)), path="/v2/models/wide/infer", host="Host: served.example\r\n") + body)
        peer = raw.getsockname()
        eventually(lambda: is_known(hasty, peer))
        # Nothing is read of 16 MB and more, until nobody is there any more.
        assert eventually(lambda: not is_known(hasty, peer), LONGEST_S)


def is_known(server: ServerProcess, peer: tuple[str, int]) -> bool:
    """Whether the server still has the connection to ``peer``, as the system's table of them says."""
    local, remote = f"{server.http_port:04X}", f"{peer[1]:04X}"
    rows = [line.split() for line in TABLE.read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{local}") and row[2].endswith(f":{remote}") and row[9] != "0" for row in rows)


def test_a_host_that_the_operator_did_not_name_is_told_so_but_for_health(hasty: ServerProcess) -> None:
    http = Http(hasty)
    assert http.ask("GET", "/v2", headers={"Host": "served.example:8000"}).status == 200
    assert http.ask("GET", "/v2/health/ready", headers={"Host": "10.1.2.3"}).status == 200
    refused = http.ask("GET", "/v2", headers={"Host": "rebound.example"})
    assert (refused.status, "'rebound.example'" in refused.json["error"]) == (421, True)
    http.close()


def test_every_row_has_a_test() -> None:
    own = {int(row) for row in re.findall(r"test_row_(\d+)", " ".join(globals()))}
    assert {row for row, *_ in CLOSED} | own == set(range(1, 25))
