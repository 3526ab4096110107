"""JSON may be less than binary data, whichever way a request comes: by itself, before data, compressed, known."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import http_doors
import onnx_models
import pytest
from http_doors import LONGEST_S, Doors

from ortolan.frontends.rest.inference_exchange import RestOptions

JSON, WHOLE = 2000, 20_000
IN_JSON = f"maximum allowed input size of {JSON} bytes. Use --http-max-json-size to increase the limit"
IN_ALL = f"maximum allowed input size of {WHOLE} bytes. Use --http-max-input-size to increase the limit"
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/any/infer"


@asynccontextmanager
async def serving(repository: Path) -> AsyncIterator[Doors]:
    onnx_models.save_version(repository, "any", onnx_models.identity(shape=("batch", "n")))
    async with http_doors.opened(repository, RestOptions(WHOLE, JSON)) as doors:
        yield doors


def numbers(size: int) -> bytes:
    """A request of so many bytes, for as many numbers as fit."""
    head, tail = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"data":[', "]}]}"
    count = (size - len(head % 1000) - len(tail)) // 2
    text = (head % count + ",".join("1" * count) + tail).encode()
    return text + b" " * (size - len(text))


def binary(json_bytes: int, data_bytes: int) -> bytes:
    parameters = {"binary_data_size": data_bytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, data_bytes // 4], "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    return text + b" " * (json_bytes - len(text)) + bytes(data_bytes)


def request(path: str, body: bytes, *headers: str, chunked: bool = False) -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", length, *headers, "", ""]).encode()
    return head + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(LONGEST_S):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(lines.split("\r\ncontent-length: ")[1].split("\r\n")[0])
        return int(lines.split()[1]), await reader.readexactly(size)


CASES = [
    ("JSON at its limit", request(INFER, numbers(JSON)), 200, "outputs"),
    ("JSON above", request(INFER, numbers(JSON + 1)), 400, IN_JSON),
    ("in chunks, at its limit", request(INFER, numbers(JSON), chunked=True), 200, "outputs"),
    ("in chunks, above", request(INFER, numbers(JSON + 1), chunked=True), 400, IN_JSON),
    ("compressed, above", request(INFER, gzip.compress(numbers(WHOLE)), "Content-Encoding: gzip"), 400, IN_JSON),
    ("binary data above JSON's", request(INFER, binary(200, 10_000), f"{LENGTH}: 200"), 200, "outputs"),
    ("JSON before data at its limit", request(INFER, binary(JSON, 4000), f"{LENGTH}: {JSON}"), 200, "outputs"),
    ("JSON before data above", request(INFER, binary(JSON + 1, 4000), f"{LENGTH}: {JSON + 1}"), 400, IN_JSON),
    ("a raw request", request(INFER, bytes(10_000), f"{LENGTH}: 0"), 200, "binary_data_size"),
    ("binary data above all", request(INFER, binary(200, WHOLE), f"{LENGTH}: 200"), 400, IN_ALL),
    ("generate", request("/v2/models/any/generate", b" " * (JSON + 1)), 400, IN_JSON),
    ("generate_stream", request("/v2/models/any/generate_stream", b" " * (JSON + 1)), 400, IN_JSON),
    ("predict", request("/v1/models/any:predict", b" " * (JSON + 1)), 400, IN_JSON),
    ("the index", request("/v2/repository/index", b" " * (JSON + 1)), 413, IN_JSON),
    ("log settings", request("/v2/logging", b" " * (JSON + 1)), 413, IN_JSON),
    ("trace settings", request("/v2/trace/setting", b" " * (JSON + 1)), 413, IN_JSON),
    ("an unload", request("/v2/repository/models/any/unload", b" " * (JSON + 1)), 413, IN_JSON),
    ("a load within all", request("/v2/repository/models/any/load", b" " * WHOLE), 503, "not allowed"),
    ("a load above all", request("/v2/repository/models/any/load", b" " * (WHOLE + 1)), 413, IN_ALL),
]


@pytest.mark.parametrize("door", ["asgi", "own"])
async def test_json_has_its_limit_and_the_connection_goes_on(tmp_path: Path, door: str) -> None:
    async with serving(tmp_path) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", getattr(doors, door).port)
        for what, sent, status, said in CASES:
            # Twice, because the head of the second is known.
            for _ in range(2):
                writer.write(sent)
                found, body = await answered(reader)
                assert (found, said in body.decode("latin-1")) == (status, True), (what, body[:300])
        writer.close()


async def test_a_form_that_is_known_does_not_open_a_door_for_more_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.own.port)
        for count in [100] * 30 + [1000]:
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, count], "data": [1] * count}
            writer.write(request(INFER, json.dumps({"inputs": [tensor]}).encode()))
            status, body = await answered(reader)
            assert (status, IN_JSON in body.decode()) == ((200, False) if count == 100 else (400, True))
        writer.close()


async def test_what_declares_its_length_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    heads = {
        f"POST {INFER} HTTP/1.1\r\nContent-Length: {JSON + 1}": 400,
        f"POST {INFER} HTTP/1.1\r\nContent-Length: {WHOLE}\r\n{LENGTH}: {JSON + 1}": 400,
        f"POST {INFER} HTTP/1.1\r\nContent-Length: {WHOLE + 1}\r\n{LENGTH}: 0": 400,
        f"POST /v2/repository/index HTTP/1.1\r\nContent-Length: {JSON + 1}": 413,
        f"POST /v1/models/any:predict HTTP/1.1\r\nContent-Length: {JSON + 1}": 400,
    }
    async with serving(tmp_path) as doors:
        for door in (doors.asgi, doors.own):
            for head, status in heads.items():
                for more in ("", "Expect: 100-continue\r\n"):
                    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
                    writer.write(f"{head}\r\nHost: x\r\n{more}\r\n".encode())
                    # No 100 comes before it.
                    assert (await answered(reader))[0] == status, head
                    writer.close()
