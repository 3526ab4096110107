"""Certificates of clients as what says who asks, over REST and both transports of gRPC."""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import grpc
import onnx_models
import pytest
from callers import grpc_request, rest_body, row
from certificates import Authority, Pair
from cryptography import x509
from server_process import ServerProcess, running

INFER = "/inference.GRPCInferenceService/ModelInfer"
LOAD = "/v2/repository/models/doubler/load"
BODY = rest_body(row(1))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for name in ("doubler", "neighbour"):
        onnx_models.save_version(path, name, onnx_models.doubler())
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> Mapping[str, Pair]:
    edge = (x509.UniformResourceIdentifier("spiffe://example.org/edge"),)
    return {
        "stranger": authority.client("stranger"),
        "root": authority.client("root"),
        "edge": authority.client("edge", edge),
    }


@pytest.fixture(scope="module", params=["http2", "grpcio", "one port"])
def server(
    request: pytest.FixtureRequest,
    repository: Path,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("edge:certificate:spiffe%3A//example.org/edge:infer@doubler\nroot:certificate:root\n")
    own = authority.server()
    flags = [f"--tls-certificate={own.certificate}", f"--tls-key={own.key}", f"--tls-client-ca={authority.file}"]
    flags += [f"--api-keys-file={keys}", "--model-control-mode=explicit", "--load-model=*"]
    if request.param == "one port":
        with running(repository, "--model-control-mode=explicit") as first:
            port = first.http_port
        flags += [f"--http-port={port}", f"--grpc-port={port}"]
    else:
        flags.append(f"--grpc-transport={request.param}")
    with running(repository, *flags) as server:
        yield server


def code(server: ServerProcess, authority: Authority, pair: Pair, path: str, times: int = 1) -> list[int]:
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(pair.certificate, pair.key)
    codes = []
    made = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=20, context=context)
    with closing(made) as connection:
        for _ in range(times):
            connection.request("POST", path, BODY if path.endswith("infer") else b"{}")
            response = connection.getresponse()
            response.read()
            codes.append(response.status)
    return codes


def test_a_certificate_opens_what_the_file_says_of_it(
    server: ServerProcess, authority: Authority, pairs: Mapping[str, Pair]
) -> None:
    paths = ("/v2/models/doubler/infer", "/v2/models/neighbour/infer", "/v2/repository/index", LOAD)
    for name, codes in {
        "edge": [200, 403, 403, 403],
        "root": [200, 200, 200, 200],
        # Known to nobody but the authority: others are named one by one.
        "stranger": [401, 401, 401, 401],
    }.items():
        assert [code(server, authority, pairs[name], path)[0] for path in paths] == codes, name


def test_each_connection_has_its_own_though_requests_are_the_same_bytes(
    server: ServerProcess, authority: Authority, pairs: Mapping[str, Pair]
) -> None:
    path = "/v2/models/neighbour/infer"
    assert code(server, authority, pairs["root"], path, times=6) == [200] * 6
    assert code(server, authority, pairs["edge"], path, times=6) == [403] * 6
    assert code(server, authority, pairs["root"], path, times=6) == [200] * 6


def test_over_grpc_too(server: ServerProcess, authority: Authority, pairs: Mapping[str, Pair]) -> None:
    for name, codes in {"edge": ["OK", "PERMISSION_DENIED"], "root": ["OK", "OK"]}.items():
        pair = pairs[name]
        credentials = grpc.ssl_channel_credentials(authority.pem, pair.key_pem, pair.pem)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(server.grpc, credentials, options) as channel:
            for _ in range(4):
                assert [grpc_code(channel, model) for model in ("doubler", "neighbour")] == codes, name


def grpc_code(channel: grpc.Channel, model: str) -> str:
    try:
        channel.unary_unary(INFER)(grpc_request(model, row(1)), timeout=20)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_clients_that_may_leave_theirs_out_need_a_key_then(
    repository: Path, authority: Authority, pairs: Mapping[str, Pair]
) -> None:
    own = authority.server("optional")
    flags = [f"--tls-certificate={own.certificate}", f"--tls-key={own.key}", f"--tls-client-ca={authority.file}"]
    flags += ["--tls-client-certificates=optional", "--tls-client-scopes=read"]
    with running(repository, *flags) as server:
        assert code(server, authority, pairs["root"], "/v2/repository/index") == [200]
        assert code(server, authority, pairs["root"], "/v2/models/doubler/infer") == [403]
        context = ssl.create_default_context(cafile=authority.file)
        made = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=20, context=context)
        with closing(made) as connection:
            codes = []
            for path in ("/v2/health/ready", "/v2"):
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                codes.append(response.status)
    assert codes == [200, 401]
