"""Restricted routes and methods answer those who know the header; every other one answers as ever."""

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import onnx_models
import pytest
from callers import get, grpc_request, rest_body, row
from server_process import ServerProcess, finished, running

from ortolan.frontends.rest.operations import category_of
from ortolan.frontends.restriction import CATEGORIES
from ortolan.protocol import protobuf_messages as messages

HEADER = {"X-Admin": "secret"}
METADATA = (("triton-grpc-protocol-admin", "secret"),)
REFUSAL = "This API is restricted, expecting header 'X-Admin'"
EVERYTHING = ",".join(CATEGORIES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Everything is restricted."""
    repository = tmp_path_factory.mktemp("models")
    onnx_models.save_version(repository, "doubler", onnx_models.doubler())
    flags = (
        f"--http-restricted-api={EVERYTHING}:X-Admin=secret",
        f"--grpc-restricted-protocol={EVERYTHING}:admin=secret",
    )
    with running(repository, *flags) as server:
        yield server


def status(
    server: ServerProcess, method: str, path: str, headers: dict[str, str], body: bytes = b"{}"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body if method == "POST" else None, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def documented_routes(server: ServerProcess) -> list[tuple[str, str]]:
    document = json.loads(status(server, "GET", "/openapi.json", HEADER)[1])
    filled = {"model_name": "doubler", "model_version": "1", "region_name": "r", "repository_name": "r"}
    return [
        (method.upper(), re.sub(r"\{(\w+)\}", lambda found: filled.get(found[1], "x"), path))
        for path, operations in document["paths"].items()
        for method in operations
    ]


def test_every_documented_route_is_restricted(server: ServerProcess) -> None:
    routes = documented_routes(server)
    assert len(routes) > 20
    for method, path in routes:
        assert category_of(path), path
        for headers in ({}, {"X-Admin": "wrong"}):
            code, text = status(server, method, path, headers)
            assert (code, REFUSAL in text) == (403, True), (method, path, text)
        assert status(server, method, path, HEADER)[0] != 403, path


def test_no_other_spelling_of_a_path_opens_a_route(server: ServerProcess) -> None:
    for method, path in documented_routes(server):
        spellings = [path + end for end in ("%0A", "%0a", "%00", "%0D%0A", "%E2%80%A8", "/", "//", "%2F", "%20")]
        spellings += ["/" + path, path.replace("/", "//"), path.upper(), path.replace("/v", "/%0Av"), "/." + path]
        for spelling in spellings:
            code, text = status(server, method, spelling, {})
            assert code in (403, 404, 405), (method, spelling, text)


@pytest.mark.parametrize("path", ["/v2/logging%0A", "/v2/models/a%00b/infer", "/v2/models/doubler%0A", "/docs%0a"])
def test_a_path_with_a_control_character_is_no_routes(server: ServerProcess, path: str) -> None:
    for method in ("GET", "POST"):
        code, text = status(server, method, path, HEADER)
        assert (code, text.startswith('{"error":"Not Found')) == (404, True)


def test_every_method_is_restricted(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        for method in messages.service_methods(messages.INFERENCE_SERVICE):
            name = f"/{messages.INFERENCE_SERVICE}/{method.name}"
            if method.client_streaming:
                continue
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(name)(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert refused.value.details() == (
                "This protocol is restricted, expecting header 'triton-grpc-protocol-admin'"
            )


def test_a_stream_is_restricted_too(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        data = grpc_request("doubler", row(1))
        with pytest.raises(grpc.RpcError) as refused:
            list(stream(iter([data]), timeout=10))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        (answer,) = stream(iter([data]), timeout=10, metadata=METADATA)
        assert not messages.ModelStreamInferResponse.FromString(answer).error_message


def test_the_header_opens_them(server: ServerProcess) -> None:
    assert status(server, "GET", "/v2/health/ready", HEADER)[0] == 200
    assert status(server, "POST", "/v2/models/doubler/infer", HEADER, rest_body(row(1)))[0] == 200
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert infer(grpc_request("doubler", row(1)), timeout=10, metadata=METADATA)


def test_what_is_not_restricted_is_open(tmp_path: Path) -> None:
    onnx_models.save_version(tmp_path, "doubler", onnx_models.doubler())
    flags = ("--http-restricted-api=model-repository,logging:X-Admin=secret", "--http-restricted-api=trace:T=1")
    with running(tmp_path, *flags) as server:
        assert get(server, "/v2")["name"] == "ortolan"
        assert status(server, "POST", "/v2/models/doubler/infer", {}, rest_body(row(1)))[0] == 200
        assert status(server, "POST", "/v2/repository/index", {}) == (
            403,
            json.dumps({"error": REFUSAL}, separators=(",", ":")),
        )
        assert status(server, "POST", "/v2/repository/index", HEADER)[0] == 200
        assert status(server, "GET", "/v2/trace/setting", HEADER)[0] == 403
        # Over gRPC nothing was restricted.
        with grpc.insecure_channel(server.grpc) as channel:
            assert channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")(b"", timeout=10)


@pytest.mark.parametrize("flag", ["--http-restricted-api=nothing:k=v", "--grpc-restricted-protocol=health"])
def test_a_wrong_restriction_ends_the_start(tmp_path: Path, flag: str) -> None:
    onnx_models.save_version(tmp_path, "doubler", onnx_models.doubler())
    ended = finished("serve", tmp_path, flag, "--http-port=0", "--grpc-port=0", "--metrics-port=0")
    assert ended.returncode == 2
    assert flag.split("=")[0] in ended.stderr
