"""Compressed bodies both ways, through tritonclient and on the wire, over HTTP and gRPC."""

import asyncio
import gzip
import http.client
import json
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.http.aio
from callers import grpc_array, grpc_call
from server_process import ServerProcess, running

VALUES = np.arange(4000, dtype=np.float32).reshape(1, 4000)
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    onnx_models.save_version(repository, "identity", onnx_models.identity(shape=("batch", "width")))
    flags = (f"--http-max-input-size={LIMIT}", "--grpc-infer-response-compression-level=medium")
    with running(repository, *flags) as server:
        yield server


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    yield connection
    connection.close()


def body_of(values: np.ndarray) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": values.shape, "data": values.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def ask(
    connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]
) -> tuple[int, http.client.HTTPResponse, bytes]:
    connection.request("POST", "/v2/models/identity/infer", body, dict(headers))
    response = connection.getresponse()
    return response.status, response, response.read()


ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}
DECODERS = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("accepted", DECODERS)
def test_every_encoding_works_both_ways(connection: http.client.HTTPConnection, encoding: str, accepted: str) -> None:
    headers = {"Content-Encoding": encoding, "Accept-Encoding": accepted}
    status, response, body = ask(connection, ENCODERS[encoding](body_of(VALUES)), headers)
    assert (status, response.getheader("content-encoding")) == (200, accepted)
    assert response.getheader("content-length") == str(len(body))
    output = json.loads(DECODERS[accepted](body))["outputs"][0]
    assert output["data"] == VALUES.ravel().tolist()


def test_the_header_length_counts_what_is_decompressed(connection: http.client.HTTPConnection) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": VALUES.shape, "parameters": {"binary_data_size": VALUES.nbytes}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    headers = {
        "Content-Encoding": "gzip",
        "Accept-Encoding": "gzip",
        "Inference-Header-Content-Length": str(len(head)),
    }
    status, response, body = ask(connection, gzip.compress(head + VALUES.tobytes()), headers)
    assert status == 200
    size = int(response.getheader("inference-header-content-length") or "")
    assert gzip.decompress(body)[size:] == VALUES.tobytes()


def test_small_answers_and_those_not_asked_for_are_sent_as_they_are(connection: http.client.HTTPConnection) -> None:
    for values, headers in (
        (VALUES[:, :4], {"Accept-Encoding": "gzip"}),
        (VALUES, {}),
        (VALUES, {"Accept-Encoding": "br"}),
    ):
        status, response, body = ask(connection, body_of(values), headers)
        assert (status, response.getheader("content-encoding")) == (200, None)
        assert json.loads(body)["outputs"][0]["data"] == values.ravel().tolist()


@pytest.mark.parametrize("encoding", ["br", "zstd", "nonsense"])
def test_another_encoding_is_415_and_says_which_there_are(
    connection: http.client.HTTPConnection, encoding: str
) -> None:
    status, response, body = ask(connection, body_of(VALUES), {"Content-Encoding": encoding})
    assert (status, response.getheader("accept-encoding")) == (415, "gzip, deflate")
    assert "Unsupported compression type" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"not compressed at all", "not gzip data"),
        (gzip.compress(body_of(VALUES))[:-30], "ends before"),
        (gzip.compress(bytes(LIMIT + 1)), "--http-max-input-size"),
        (gzip.compress(bytes(64 << 20)), "--http-max-input-size"),
        (bytes(LIMIT + 1), "--http-max-input-size"),
    ],
)
def test_what_is_no_body_or_too_large_a_one_is_400(
    connection: http.client.HTTPConnection, body: bytes, why: str
) -> None:
    status, _, answer = ask(connection, body, {"Content-Encoding": "gzip"})
    assert status == 400
    assert why in json.loads(answer)["error"]
    assert ask(connection, body_of(VALUES), {})[0] == 200


def test_bodies_of_other_routes_may_be_compressed_too(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/v2/repository/index", gzip.compress(b'{"ready": true}'), {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    assert [entry["name"] for entry in json.loads(response.read())] == ["identity"]


# -- tritonclient ------------------------------------------------------------------------------------------------------


def triton_input(module: Any) -> Any:
    tensor = module.InferInput("x", [*VALUES.shape], "FP32")
    tensor.set_data_from_numpy(VALUES)
    return tensor


ALGORITHMS = [(None, "gzip"), ("gzip", None), ("gzip", "deflate"), ("deflate", "gzip"), ("deflate", "deflate")]


@pytest.mark.parametrize(("sent", "received"), ALGORITHMS)
def test_tritonclient_compresses_over_http(server: ServerProcess, sent: str | None, received: str | None) -> None:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        result = client.infer(
            "identity",
            [triton_input(tritonclient.http)],
            request_compression_algorithm=sent,
            response_compression_algorithm=received,
        )
    assert np.array_equal(result.as_numpy("y"), VALUES)


@pytest.fixture
async def aio_client(server: ServerProcess) -> AsyncIterator[Any]:
    async with tritonclient.http.aio.InferenceServerClient(server.http) as client:
        yield client


@pytest.mark.parametrize(("sent", "received"), ALGORITHMS)
async def test_tritonclient_compresses_over_asyncio_http(
    aio_client: Any, sent: str | None, received: str | None
) -> None:
    result = await aio_client.infer(
        "identity",
        [triton_input(tritonclient.http.aio)],
        request_compression_algorithm=sent,
        response_compression_algorithm=received,
    )
    assert np.array_equal(result.as_numpy("y"), VALUES)


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_tritonclient_compresses_over_grpc(server: ServerProcess, algorithm: str | None) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        result = client.infer("identity", [triton_input(tritonclient.grpc)], compression_algorithm=algorithm)
    assert np.array_equal(result.as_numpy("y"), VALUES)


class Relay:
    """A port before the server's that counts the bytes which come back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.returned_bytes = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._copy(reader, behind_writer, False), self._copy(behind_reader, writer, True))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.returned_bytes += len(data) if counted else 0
                writer.write(data)
        finally:
            writer.close()


async def test_grpc_responses_are_compressed_as_the_operator_chose(
    server: ServerProcess, small_models_server: ServerProcess
) -> None:
    values = np.zeros((1, 100_000), np.float32)
    sizes = []
    for behind, model in ((server, "identity"), (small_models_server, "large")):
        relay = Relay(behind.grpc_port)
        async with await asyncio.start_server(relay.connected, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert np.array_equal(grpc_array(await grpc_call(channel, model, values)), values)
        sizes.append(relay.returned_bytes)
    compressed, plain = sizes
    assert plain > values.nbytes
    assert compressed < values.nbytes / 10
