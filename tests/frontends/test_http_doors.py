"""An inference gets the same answer whichever door it comes in by: plain ASGI, or the connection itself."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import http_doors
import onnx_models
import pytest
from http_doors import Doors

from ortolan.frontends.header_forwarding import HeaderForwarding
from ortolan.frontends.rest.inference_exchange import RestOptions
from ortolan.frontends.restriction import http_restrictions

LIMIT = 300_000
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
GOOD = json.dumps({"inputs": [{**TENSOR, "data": [1, 2, 3, 4]}], "id": "one"}).encode()
JSON_HEAD = json.dumps(
    {"inputs": [{**TENSOR, "parameters": {"binary_data_size": 16}}], "parameters": {"binary_data_output": True}}
).encode()
BINARY = JSON_HEAD + bytes(16)
BINARY_HEADER = f"Inference-Header-Content-Length: {len(JSON_HEAD)}"
WIDE_HEAD = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [50, 1000], "parameters": {"binary_data_size": 200_000}}],
        "parameters": {"binary_data_output": True},
    }
).encode()
WIDE = WIDE_HEAD + bytes(200_000)
WIDE_HEADER = f"Inference-Header-Content-Length: {len(WIDE_HEAD)}"
CHUNKED = "Transfer-Encoding: chunked"


def request(
    body: bytes = GOOD, *headers: str, path: str = "/v2/models/double/infer", start: str = "", end: str = ""
) -> bytes:
    """A request whose answer closes the connection, unless ``end`` says otherwise."""
    lines = [start or f"POST {path} HTTP/1.1", "Host: localhost", *headers, end or "Connection: close"]
    if CHUNKED not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


KEPT = "Connection: keep-alive"
SENT = {
    "JSON": request(),
    "binary": request(BINARY, BINARY_HEADER),
    "raw": request(bytes(16), "Inference-Header-Content-Length: 0"),
    "a version": request(path="/v2/models/double/versions/1/infer"),
    "no such version": request(path="/v2/models/double/versions/7/infer"),
    "no such model": request(path="/v2/models/nope/infer"),
    "a name in percent encoding": request(path="/v2/models/d%6Fuble/infer"),
    "a name with control characters": request(path="/v2/models/dou%0Able/infer"),
    "a query": request(path="/v2/models/double/infer?x=1"),
    "a whole address": request(path="http://localhost/v2/models/double/infer"),
    "another method": request(start="PUT /v2/models/double/infer HTTP/1.1"),
    "no body": request(b""),
    "no JSON": request(b"{"),
    "binary data that nobody declared": request(BINARY, "Content-Type: application/octet-stream"),
    "a wrong length": request(BINARY, "Inference-Header-Content-Length: x"),
    "two lengths": request(BINARY, BINARY_HEADER, "Inference-Header-Content-Length: 0"),
    "compressed": request(gzip.compress(GOOD), "Content-Encoding: gzip"),
    "compressed at length": request(
        gzip.compress(WIDE, 0), "Content-Encoding: gzip", WIDE_HEADER, path="/v2/models/any/infer"
    ),
    "an unknown compression": request(GOOD, "Content-Encoding: br"),
    "a compressed answer": request(WIDE, WIDE_HEADER, "Accept-Encoding: gzip", path="/v2/models/any/infer"),
    "a large body": request(WIDE, WIDE_HEADER, path="/v2/models/any/infer"),
    "a wrong deadline": request(GOOD, "X-Request-Timeout: soon"),
    "a deadline": request(GOOD, "X-Request-Timeout: 9.5"),
    "a header for a parameter": request(GOOD, "Forward-Me: 7"),
    "chunks": request(chunked(GOOD[:9], GOOD[9:]), CHUNKED),
    "an announced body": request(GOOD, "Expect: 100-continue"),
    "an announced body that is too large": request(bytes(LIMIT + 1), "Expect: 100-continue", end=KEPT) + request(),
    "chunks over the limit": request(chunked(bytes(LIMIT), b"x"), CHUNKED, end=KEPT) + request(),
    "HTTP/1.0": request(start="POST /v2/models/double/infer HTTP/1.0", end="X: y"),
    "HTTP/1.0 that would be kept": request(start="POST /v2/models/double/infer HTTP/1.0", end=KEPT),
    "an upgrade": request(GOOD, "Upgrade: websocket", end="Connection: upgrade, close"),
    "two ways to tell the length": request(GOOD, "Transfer-Encoding: chunked", "Content-Length: 4"),
    "a broken chunk": request(b"zz\r\n", CHUNKED),
    "no header at all": request(GOOD, "what is this"),
    "several ahead": request(end=KEPT)
    + request(b"{", end=KEPT)
    + request(BINARY, BINARY_HEADER, end=KEPT)
    + request(chunked(GOOD), CHUNKED, end=KEPT)
    + request(start="GET /v2/health/live HTTP/1.1", end=KEPT, body=b"")
    + request(),
    "one after a body that is too large": request(bytes(LIMIT + 1), end=KEPT) + request(),
    "one after a large body": request(WIDE, WIDE_HEADER, path="/v2/models/any/infer", end=KEPT) + request(),
}


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    onnx_models.save_version(tmp_path, "any", onnx_models.identity(shape=("rows", "columns")))
    options = RestOptions(LIMIT, forwarding=HeaderForwarding("^forward", "--flag"))
    async with http_doors.opened(tmp_path, options) as doors:
        yield doors


async def test_both_doors_answer_the_same(doors: Doors) -> None:
    for name, data in SENT.items():
        asgi = await http_doors.sent(doors.asgi.port, data)
        own = await http_doors.sent(doors.own.port, data)
        assert own == asgi, name
        assert own.startswith(b"HTTP/1.1 "), name


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_it_does_not_matter_in_what_pieces_a_request_comes(doors: Doors, size: int) -> None:
    for name in ("JSON", "chunks", "a large body", "several ahead"):
        data = SENT[name]
        at_once = await http_doors.sent(doors.own.port, data)
        start = data[: 40 * size]
        parts = [start[at : at + size] for at in range(0, len(start), size)]
        assert await http_doors.sent(doors.own.port, *parts, data[len(start) :]) == at_once, name


async def test_both_doors_say_that_a_draining_server_closes(doors: Doors) -> None:
    doors.core.set_draining()
    for data in (request(end=KEPT), request(b"{", end=KEPT)):
        asgi, own = [await http_doors.sent(door.port, data) for door in (doors.asgi, doors.own)]
        assert own == asgi
        assert b"\r\nconnection: close\r\n" in own


@pytest.mark.parametrize(("key", "status"), [("secret", 200), ("wrong", 403)])
async def test_both_doors_know_the_operators_restrictions(tmp_path: Path, key: str, status: int) -> None:
    onnx_models.save_version(tmp_path, "double", onnx_models.doubler())
    options = RestOptions(LIMIT, restrictions=http_restrictions(["inference:key=secret"]))
    async with http_doors.opened(tmp_path, options) as doors:
        data = request(GOOD, f"Key: {key}")
        asgi, own = [await http_doors.sent(door.port, data) for door in (doors.asgi, doors.own)]
        assert own == asgi
        assert own.startswith(b"HTTP/1.1 %d " % status)
