"""Tokens of an issuer as what says who asks, over REST and gRPC."""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import onnx_models
import pytest
from callers import ask, grpc_request, rest_body, row
from issuers import AUDIENCE, Issuer, SigningKey, ec_key, issuer
from server_process import ServerProcess, eventually, running

INFER = "/inference.GRPCInferenceService/ModelInfer"
INDEX = "/inference.GRPCInferenceService/RepositoryIndex"
LOAD = "/v2/repository/models/doubler/load"
BODY = rest_body(row(1))
KEY = ec_key()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for name in ("doubler", "neighbour"):
        onnx_models.save_version(path, name, onnx_models.doubler())
    return path


@pytest.fixture(scope="module")
def opened(repository: Path) -> Iterator[tuple[ServerProcess, Issuer]]:
    with issuer() as known:
        known.publish(KEY)
        flags = (f"--jwt-issuer={known.address}", f"--jwt-audience={AUDIENCE}", "--model-control-mode=explicit")
        with running(repository, *flags, "--load-model=*") as server:
            yield server, known


def token(known: Issuer, key: SigningKey | None = None, **claims: object) -> dict[str, str]:
    now_s = int(time.time())
    token = known.token(key or KEY, **{"iat": now_s - 120, "exp": now_s + 300, **claims})
    return {"Authorization": f"Bearer {token}"}


def test_a_token_opens_what_its_scopes_say(opened: tuple[ServerProcess, Issuer]) -> None:
    server, known = opened
    for scope, infer, index, load in (
        # Without scopes: infer and read, as the operator left it.
        (None, 200, 200, 403),
        ("openid", 200, 200, 403),
        ("openid ortolan:infer", 200, 403, 403),
        ("ortolan:read", 403, 200, 403),
        ("ortolan:admin", 403, 403, 200),
        ("ortolan:infer@neighbour", 403, 403, 403),
    ):
        sent = token(known, scope=scope)
        codes = [
            ask(server, "POST", "/v2/models/doubler/infer", BODY, sent).status,
            ask(server, "POST", "/v2/repository/index", {}, sent).status,
            ask(server, "POST", LOAD, {}, sent).status,
        ]
        assert codes == [infer, index, load], scope


def test_over_grpc_too(opened: tuple[ServerProcess, Issuer]) -> None:
    server, known = opened
    metadata = [("authorization", token(known, scope="ortolan:infer")["Authorization"])]
    with grpc.insecure_channel(server.grpc) as channel:
        for _ in range(5):
            assert channel.unary_unary(INFER)(grpc_request("doubler", row(1)), timeout=20, metadata=metadata)
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(INDEX)(b"", timeout=20, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_is_no_token_of_the_issuer_is_refused(opened: tuple[ServerProcess, Issuer]) -> None:
    server, known = opened
    now_s = int(time.time())
    for sent in (
        {},
        {"Authorization": "Bearer a.b.c"},
        token(known, exp=now_s - 60),
        token(known, aud="another"),
        token(known, iss="https://another.example"),
        token(known, key=ec_key("e")),
    ):
        reply = ask(server, "POST", "/v2/models/doubler/infer", BODY, sent)
        assert (reply.status, b"doubler" in reply.body) == (401, False), reply.body


def test_a_token_counts_until_it_expires_also_on_a_connection_that_stands(opened: tuple[ServerProcess, Issuer]) -> None:
    """As far as clocks may differ: 30 s. The token is about to have been expired for so long."""
    server, known = opened
    sent = token(known, exp=int(time.time()) - 26)
    with closing(http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)) as connection:

        def code() -> int:
            connection.request("POST", "/v2/models/doubler/infer", BODY, sent)
            response = connection.getresponse()
            response.read()
            return response.status

        first = code()
        assert first in (200, 401)
        eventually(lambda: code() == 401)
